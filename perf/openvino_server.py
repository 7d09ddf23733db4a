"""OpenVINO's engine behind /v1/completions, for perf/serving.py: it has no server of its own that pip installs.

    pip install openvino-genai "optimum-intel[openvino]"                             # in an environment of its own
    optimum-cli export openvino --model ./qwen --weight-format fp16 ./qwen-openvino  # is computed in bfloat16
    python -m perf.openvino_server --model ./qwen-openvino --port 8081

It answers what perf/serving.py asks, and nothing else.
"""

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True)
parser.add_argument("--port", type=int, default=8081)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--max-batch-size", type=int, default=64)
parser.add_argument("--cache", type=int, default=4, help="GB for keys and values")
options = parser.parse_args()

import openvino_genai as genai  # noqa: E402  # pyright: ignore[reportMissingImports]  # not needed for --help

scheduler = genai.SchedulerConfig()
scheduler.cache_size, scheduler.max_num_seqs = options.cache, options.max_batch_size
scheduler.max_num_batched_tokens = 2048  # of prompts and answers in one step
scheduler.enable_prefix_caching = scheduler.dynamic_split_fuse = True
pipeline = genai.ContinuousBatchingPipeline(
    options.model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": options.threads, "ENABLE_CPU_PINNING": False}
)
tokenizer = pipeline.get_tokenizer()
changed = threading.Condition()  # of the requests in the pipeline
requests = 0


def compute() -> None:
    while True:
        with changed:
            changed.wait_for(pipeline.has_non_finished_requests)
        pipeline.step()
        with changed:
            changed.notify_all()


def completions(asked: dict) -> dict:
    global requests
    generation = genai.GenerationConfig()
    generation.max_new_tokens = asked["max_tokens"]
    generation.num_return_sequences = asked.get("n", 1)
    generation.do_sample = asked["temperature"] > 0
    if generation.do_sample:
        generation.temperature, generation.rng_seed = asked["temperature"], asked.get("seed", 0)
    generation.stop_strings = set(asked.get("stop") or ())
    prompt = asked["prompt"] if isinstance(asked["prompt"], str) else asked["prompt"][0]
    with changed:
        handle = pipeline.add_request(requests, prompt, generation)
        requests += 1
        changed.notify_all()
        changed.wait_for(lambda: handle.get_status() != genai.GenerationStatus.RUNNING)
    outputs = handle.read_all()
    choices = [
        {
            "index": index,
            "text": tokenizer.decode(output.generated_ids),
            "finish_reason": "length" if output.finish_reason == genai.GenerationFinishReason.LENGTH else "stop",
        }
        for index, output in enumerate(outputs)
    ]
    return {"choices": choices, "usage": {"completion_tokens": sum(len(output.generated_ids) for output in outputs)}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer({"data": [{"id": options.model}]})

    def do_POST(self) -> None:
        self.answer(completions(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


threading.Thread(target=compute, daemon=True).start()
Server(("127.0.0.1", options.port), Handler).serve_forever()
