"""Small trainings of the built-in methods, for tests of the training loop."""

import torch

from bench.config import TrainConfig
from bench.method import Stage, TeacherUse
from bench.nmt.model import Transformer
from bench.registry import load_methods
from bench.toy import STUDENT, TEACHER, VOCABULARY, toy_teacher
from bench.train.trainer import Trainer, new_network

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    target_tokens=3000, batch_tokens=64, learning_rate=5e-3, warmup_updates=10, clip_norm=1.0, evaluations=5
)
METHODS = load_methods().found


def make(corpora, folder, name="baseline", config=CONFIG, *, method=None, seed=1, dropout=0.1, **more) -> Trainer:
    method = method or METHODS[name]()
    shape = method.architecture(STUDENT, TEACHER).model_copy(update={"dropout": dropout})
    teacher = None
    if method.teacher is TeacherUse.FROZEN:
        teacher = Transformer(TEACHER, VOCABULARY)
        teacher.load_state_dict(toy_teacher().state_dict())
    torch.manual_seed(5)  # for the modules of the method
    return Trainer(
        method,
        config,
        new_network(shape, VOCABULARY, seed),
        teacher=teacher,
        modules=method.modules(STUDENT, TEACHER),
        depths=[delivery.depth for delivery in method.deliveries(STUDENT, TEACHER)],
        texts=[corpora[0]] * len(method.stages()),
        dev=corpora[1],
        seed=seed,
        device=CPU,
        folder=folder,
        **more,
    )


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class StoppedError(Exception):
    """Stands for a kill in the middle of an update."""


class TwoStages(METHODS["baseline"]):
    def stages(self):
        return (Stage(name="first", share=0.75), Stage(name="second", share=0.25, learning_rate_scale=1e-30))
