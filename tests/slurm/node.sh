#!/bin/bash
# First process of a machine of the test cluster, in network, host name, mounts and processes of its own.
# usage: node.sh NAME ADDRESS LAB [SHARED...]   LAB and SHARED are folders that all machines see
set -euo pipefail
name=$1 address=$2 lab=$3
shift 2

hostname "$name"
mount --bind "$lab/etc/hosts" /etc/hosts
mount --bind "$lab/etc/slurm" /etc/slurm
mount -t sysfs sysfs /sys # of this network: else programs see the interfaces of the machine that runs the tests
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
if [[ -d $lab/etc/ssh ]]; then
  mount --bind "$lab/etc/ssh" /etc/ssh
  mkdir /run/sshd
fi

# A /tmp of its own (PMIx needs one), with the shared folders that lie below /tmp bound back into it.
tmp=$lab/local/$name/tmp
mkdir -p "$tmp"
chmod 1777 "$tmp"
for folder in "$@"; do
  if [[ $folder == /tmp/* ]]; then
    mkdir -p "$tmp/${folder#/tmp/}"
    mount --bind "$folder" "$tmp/${folder#/tmp/}"
  fi
done
mount --rbind "$tmp" /tmp

ip link set lo up
if [[ $name == head ]]; then
  ip link add eth0 type bridge # a switch that has an address too
else
  for _ in {1..1000}; do # plugged in from outside
    ip link show eth0 &>/dev/null && break
    sleep 0.01
  done
fi
ip addr add "$address/24" dev eth0
ip link set eth0 up

exec &>"$lab/log/$name.log"
if [[ $name == head ]]; then
  munged --foreground --force --socket="$lab/run/munge.sock" --key-file="$lab/etc/munge.key" \
    --log-file="$lab/log/munged.log" --pid-file="$lab/run/munged.pid" --seed-file="$lab/run/munge.seed" &
  until [[ -S $lab/run/munge.sock ]]; do sleep 0.01; done
  slurmctld -D &
else
  slurmd -D &
  if [[ -d $lab/etc/ssh ]]; then /usr/sbin/sshd -D & fi
fi
while :; do # reap orphans, as the first process must
  wait -n || sleep 0.2
done
