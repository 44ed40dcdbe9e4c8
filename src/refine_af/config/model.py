"""The options of the model: which one, where it is, in what precision, and what generates with it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refine_af.config.section import Positive, Section

_MOST_PACKED = 2**29  # weights, 2 GiB in float32


class ServerConfig(Section):
    """The vLLM server that generates where model.engine is vllm."""

    url: str | None = Field(None, min_length=1, description="its address, like http://localhost:8000/v1")
    name: str | None = Field(None, min_length=1, description="the model's name there; none: the only one it serves")
    api_key_env: str = Field("VLLM_API_KEY", min_length=1, description="environment variable that holds its key")
    timeout: Positive = Field(600, description="seconds after which a completion is asked for again")


class ModelConfig(Section):
    """The model that writes, is tuned and is evaluated."""

    name: str = Field(
        "embedded", min_length=1, description='"embedded" (SmolLM2-135M-Instruct), a local folder, or a Hub name'
    )
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    engine: Literal["auto", "ctranslate2", "transformers", "vllm"] = Field(
        "auto",
        description="what generates: auto is transformers; ctranslate2 generates on the CPU; vllm is a server that you "
        "started with the same model",
    )
    chat_template: Literal["auto", "none"] = Field(
        "auto", description="auto: the tokenizer's, where it has one; none: plain headings, as a base model is asked"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where torch computes")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "nf4"] = Field(
        "auto",
        description="weights in memory: auto is float32 on a CPU, bfloat16 on a GPU; nf4 has 4 bits a weight, by "
        "bitsandbytes, and computes in auto's type",
    )
    quantization: Literal["int8", "float32"] = Field(
        "int8",
        description="weights of what generates on a CPU; without instructions for int8 transformers takes dtype's",
    )
    batch_size: Positive = Field(64, description="completions generated at once")
    server: ServerConfig = ServerConfig()

    @model_validator(mode="after")
    def _one_set_of_weights(self) -> ModelConfig:
        if self.dtype == "nf4" and self.engine == "ctranslate2":
            raise ValueError("dtype nf4 is torch's and ctranslate2 has weights of its own; set engine to transformers")
        return self

    @model_validator(mode="after")
    def _server_where_it_is_asked(self) -> ModelConfig:
        if self.engine == "vllm" and self.server.url is None:
            raise ValueError("engine vllm needs server.url, the server's address, like http://localhost:8000/v1")
        if self.engine != "vllm" and self.server.url is not None:
            raise ValueError(f"server.url is for engine vllm, and engine is {self.engine}; set engine to vllm")
        return self

    def is_rounded(self, *, cpu: bool) -> bool:
        """Whether the linear layers of what generates there are in int8, where the processor has instructions for it or
        ctranslate2 generates."""
        return cpu and self.quantization == "int8" and self.dtype != "nf4"

    def is_packed(self, parameters: int, *, cpu: bool) -> bool:
        """Whether what generates there and isn't rounded is a copy in float32, its weights arranged for speed. A large
        network has no copy: it would take more room than it spares time."""
        return cpu and self.dtype in ("auto", "float32") and parameters <= _MOST_PACKED
