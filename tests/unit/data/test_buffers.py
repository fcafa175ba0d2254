from flamingo_ds.data.buffers import PixelBuffers


def test_memory_comes_back_when_its_last_tensor_is_gone():
    buffers = PixelBuffers()
    first = buffers.take(2, 3)
    place = first.data_ptr()
    second = buffers.take(2, 3)
    assert second.data_ptr() != place
    part = first[1:].flatten()
    del first
    assert buffers.take(1).data_ptr() not in (place, second.data_ptr())
    del part
    again = buffers.take(1, 5)
    assert again.data_ptr() == place
    assert again.shape == (1, 5)


def test_idle_buffers_that_are_too_small_are_dropped():
    buffers = PixelBuffers()
    for size in range(1, 50):
        shape = buffers.take(size).shape
        assert shape == (size,)
        assert len(buffers._buffers) == 1


def test_what_is_in_use_is_never_written():
    buffers = PixelBuffers()
    kept = []
    for number in range(20):
        tensor = buffers.take(3).fill_(number)
        if number % 3 == 0:
            kept.append(tensor)
    assert [int(tensor[0]) for tensor in kept] == list(range(0, 20, 3))
