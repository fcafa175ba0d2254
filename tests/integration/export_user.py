"""What users do with an export, by libraries alone: ``python export_user.py TASK ARGUMENTS_AS_JSON ANSWER_FILE``.

The package cannot be imported here.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.modules["flamingo_ds"] = None  # type: ignore[assignment]

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

CAPTION_TOKENS = 4


def load(folder: str, **options: Any) -> Any:
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, **options).eval()
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
    return model


def pictures(arguments: Any) -> list[Image.Image]:
    return [Image.open(f"{arguments['pictures']}/{number}.png") for number in range(3)]


@torch.no_grad()
def logits(pairs: Any) -> dict[str, float]:
    """Largest difference to the training engine's own logits, of each folder and checkpoint."""
    found = {}
    for name, (folder, checkpoint) in pairs.items():
        inputs = load_file(f"{checkpoint}/reference.safetensors")
        wanted = inputs.pop("logits")
        del inputs["labels"]
        model = load(folder)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        given = model(**inputs).logits
        assert given.dtype == wanted.dtype, (given.dtype, wanted.dtype)
        assert wanted.std() > 0.1
        found[name] = (given - wanted).abs().max().item()
    return found


def use(arguments: Any) -> dict[str, Any]:
    """Beams and cache, a chat through a pipeline, LoRA adapters."""
    from peft import LoraConfig, get_peft_model
    from transformers import pipeline

    folder, images = arguments["folder"], pictures(arguments)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = load(folder, dtype=torch.float32)
    texts = ["<image>a red<EOC><image>a", "<image>"]
    batch = processor(images=images, text=texts)
    single = processor(images=images[2:], text=texts[1])
    options = {"max_new_tokens": 5, "do_sample": False}
    answer: dict[str, Any] = {
        "beams_with_cache": model.generate(**batch, **options, num_beams=3).tolist(),
        "beams_without_cache": model.generate(**batch, **options, num_beams=3, use_cache=False).tolist(),
    }
    start = batch["input_ids"].shape[1]
    answer["greedy_in_a_batch"] = model.generate(**batch, **options)[1, start:].tolist()
    alone = model.generate(**single, **options)[0, single["input_ids"].shape[1] :].tolist()
    answer["greedy_alone"] = alone + answer["greedy_in_a_batch"][len(alone) :]  # a batch pads what ended

    chat = [
        {"role": "user", "content": [{"type": "image", "image": images[0]}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a red square"}]},
        {"role": "user", "content": [{"type": "image", "image": images[1]}]},
    ]
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    answer["chat_answers"] = len(pipe(text=chat, max_new_tokens=4, return_full_text=False))

    with torch.no_grad():
        before = model(**batch).logits
    torch.manual_seed(0)
    targets = r".*(language_model.*\.(q_proj|v_proj)|gated_cross_attention.*\.to_queries)"
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets)).eval()
    with torch.no_grad():
        answer["adapters_change_nothing_at_first"] = (adapted(**batch).logits - before).abs().max().item()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
        changed = adapted(**batch).logits
        answer["adapted_by"] = (changed - before).abs().max().item()
        merged = adapted.merge_and_unload()
        after = merged(**batch).logits
        answer["merged_differs_by"] = (after - changed).abs().max().item()
        merged.save_pretrained(Path(arguments["pictures"]) / "merged")
        reloaded = load(str(Path(arguments["pictures"]) / "merged"), dtype=torch.float32)
        answer["reloaded_differs_by"] = (reloaded(**batch).logits - after).abs().max().item()
    return answer


@torch.no_grad()
def eight_bits(arguments: Any) -> dict[str, float]:
    """bitsandbytes, where it is installed."""
    from transformers import BitsAndBytesConfig

    folder = arguments["folder"]
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    batch = processor(images=pictures(arguments), text=["<image>a red<EOC><image>a", "<image>"])
    skipped = ["vision_model", "resampler", "gated_cross_attention", "lm_head"]
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    whole, small = load(folder, dtype=torch.float32), load(folder, quantization_config=config)
    batch["pixel_values"] = batch["pixel_values"].to(small.dtype)
    given = small(**batch).logits.float()
    batch["pixel_values"] = batch["pixel_values"].float()
    return {"differs_by": (given - whole(**batch).logits).abs().max().item()}


def captions(arguments: Any) -> list[str]:
    """What the model says of each picture."""
    processor = AutoProcessor.from_pretrained(arguments["folder"], trust_remote_code=True)
    model = load(arguments["folder"])
    said = []
    for image in pictures(arguments):
        inputs = processor(images=[image], text="<image>").to(model.dtype)
        tokens = model.generate(**inputs, max_new_tokens=CAPTION_TOKENS, do_sample=False)
        text = processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        said.append(text)
    return said


def lm_eval(arguments: Any) -> dict[str, float]:
    """The tasks that lie beside the pictures."""
    import lm_eval as harness
    from lm_eval.tasks import TaskManager

    results = harness.simple_evaluate(
        model="hf-multimodal",
        model_args=f"pretrained={arguments['folder']},trust_remote_code=True,dtype=auto,device=cpu",
        tasks=["captions_right", "captions_wrong"],
        task_manager=TaskManager(include_path=arguments["pictures"], include_defaults=False),
        batch_size=1,
        bootstrap_iters=0,
    )
    return {task: values["exact_match,none"] for task, values in results["results"].items()}


if __name__ == "__main__":
    task, given, out = sys.argv[1:]
    torch.set_num_threads(1)
    answer_of_task = {"logits": logits, "use": use, "eight_bits": eight_bits, "captions": captions, "lm_eval": lm_eval}
    Path(out).write_text(json.dumps(answer_of_task[task](json.loads(given))))
