"""The training objectives: a configuration section each. Implementations are imported when used.

A section declares everything that must be known before torch is imported: the settings, the
fields of an example, the checks of a request, and where the implementation is. To add an
objective, write its class (see ``base``), and add its section and its entry in ``REGISTRY``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Setting

from osa.model.common.requirements import require
from osa.model.errors import ConfigError
from osa.model.records.fields import Field

if TYPE_CHECKING:
    from osa.model.training.objectives.base import Objective


class ObjectiveSection(BaseModel):
    """Base of the sections: settings of an objective, frozen, unknown ones refused.

    Attributes:
        implementation: Class of the objective, as ``module:class``.
        fields: Fields of an example, under their default column names.
        locations: Settings that are places on disk and do not decide the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    implementation: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]] = (Field("text", "text", "text"),)
    locations: ClassVar[frozenset[str]] = frozenset()

    def example_fields(self) -> tuple[Field, ...]:
        """Fields of an example with these settings, under their default column names."""
        return self.fields

    def check(self) -> None:
        """Check packages and files that the settings name, without importing torch.

        Raises:
            ConfigError: One is missing.
        """

    def default_tokenizer(self) -> Path | None:
        """The ``tokenizer.json`` of a new model of texts where ``tokenizer`` is not set.

        Raises:
            ConfigError: The setting that names it is wrong.
        """
        return None

    def load(self) -> type[Objective]:
        """The objective's class, imported now."""
        module, _, name = self.implementation.partition(":")
        return cast("type[Objective]", getattr(import_module(module), name))


class DistillSection(ObjectiveSection):
    """Objective ``distill``: the vectors of a teacher, a sentence encoder.

    Attributes:
        teacher: A sentence-transformers directory, or ``package:NAME/FOLDER``.
        cache: Where the teacher's vectors are kept.
        start_embeddings: Initialise the token embeddings with the teacher's.
        rotate: Rotate targets onto their principal axes, so that leading dimensions have most of
            the variance and shorter vectors (``dimensions``) stay meaningful.
        similarity_weight: Weight of the in-batch similarity loss relative to the cosine loss.
        segment_tokens: Longer texts are cut into segments of whole sentences up to this length
            [tokens]; the teacher embeds them one by one, the student as one sequence.
        crop: Train on a random run of a long text's segments, of a random length.
    """

    implementation = "osa.model.training.objectives.distillation:Distillation"
    locations = frozenset({"cache"})
    teacher: str
    cache: Path = Path("data/teacher")
    start_embeddings: bool = True
    rotate: bool = True
    similarity_weight: float = Setting(default=10.0, ge=0)
    segment_tokens: int = Setting(default=126, ge=8, le=512)
    crop: bool = True

    def check(self) -> None:
        """Check that sentence-transformers and the teacher are installed."""
        require("the objective distill", "train", "sentence_transformers")
        self.default_tokenizer()

    def default_tokenizer(self) -> Path:
        """The teacher's."""
        from osa.model.training.objectives.teacher import locate_teacher

        return locate_teacher(self.teacher) / "tokenizer.json"


class ContrastiveSection(ObjectiveSection):
    """Objective ``contrastive``: pairs or triples with in-batch negatives.

    Attributes:
        input: What the pairs are of.
        temperature: Divides the similarities in the softmax.
        symmetric: Also classify the anchor of every positive.
    """

    implementation = "osa.model.training.objectives.contrastive:Contrastive"
    input: Literal["text", "features"] = "text"
    temperature: float = Setting(default=0.05, gt=0)
    symmetric: bool = True

    def example_fields(self) -> tuple[Field, ...]:
        """Two or three texts, or sequences of features."""
        return (
            Field("anchor", "anchor", self.input),
            Field("positive", "positive", self.input),
            Field("negative", "negative", self.input, optional=True),
        )


class MlmSection(ObjectiveSection):
    """Objective ``mlm``: masked tokens (BERT, arXiv:1810.04805).

    Attributes:
        mask_share: Share of tokens to predict; of these 80 % are masked, 10 % replaced.
        mask_token: The mask's name in the vocabulary.
    """

    implementation = "osa.model.training.objectives.masked_tokens:MaskedTokens"
    mask_share: float = Setting(default=0.15, gt=0, lt=1)
    mask_token: str = "[MASK]"


class ClassifySection(ObjectiveSection):
    """Objective ``classify``: a label for every text, pair of texts or sequence of features.

    Attributes:
        input: What is labelled; a ``pair`` is one sequence of ``text`` and ``text_pair``.
        loss: ``softmax``, cross-entropy over the labels; or ``binary``, of one logit a pair, whose
            label is its relevance from 0 to 1: a reranker.
        keep: What the checkpoint is: the ``classifier``, or the ``encoder`` alone, with the head in
            a file of its own.
    """

    implementation = "osa.model.training.objectives.classification:Classification"
    input: Literal["text", "pair", "features"] = "text"
    loss: Literal["softmax", "binary"] = "softmax"
    keep: Literal["classifier", "encoder"] = "classifier"

    def example_fields(self) -> tuple[Field, ...]:
        """A text, two texts or features, and a label."""
        label = Field("label", "label", "relevance" if self.loss == "binary" else "label")
        if self.input == "pair":
            texts = (Field("text", "text", "text"), Field("text_pair", "text_pair", "text"))
            return (*texts, label)
        return (Field(self.input, self.input, self.input), label)

    def check(self) -> None:
        """Check that a reranker reads pairs."""
        if self.loss == "binary" and self.input != "pair":
            raise ConfigError(
                "classify.loss binary trains a reranker, which reads pairs: set classify.input to "
                f"pair, got {self.input}; or classify.loss to softmax"
            )


REGISTRY: dict[str, type[ObjectiveSection]] = {
    "distill": DistillSection,
    "contrastive": ContrastiveSection,
    "mlm": MlmSection,
    "classify": ClassifySection,
}
"""Section by the name of the objective, which is also the name of the section."""
