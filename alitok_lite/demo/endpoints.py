"""What visitors and programs can ask of the server: each function of the page that uses a model, within its limits."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from ..files import write_atomically
from . import components, drawing, examples, links, models, player
from . import edit as editing
from . import look as inside
from . import poke as surgery
from . import predict as predictability
from . import reconstruct as reconstruction
from . import tell as telling
from .guard import limited, plain_errors
from .lending import on_gpu


@limited
@on_gpu
@plain_errors()
def tell(scene, seed, sampled) -> tuple:
    """The same picture, token by token, by the conventional and by the causal tokenizer; repainted patches outlined.

    Args:
        scene: name of a painted scene.
        seed: whole number from 0 to 2147483647; empty draws a random seed.
        sampled: false tells a painted scene, true a picture that each AR model samples.
    """
    return tuple(telling.tell(scene, drawing.read_seed(seed), sampled))


@limited
@on_gpu
def draw(model, class_name, seed, guidance, temperature, count) -> Iterator[tuple]:
    """Draw pictures of a class token by token; the last answer has all frames, and the finished PNG.

    Args:
        model: name of the model.
        class_name: what to draw, one of the model's class names; of ImageNet's classes, number or synset will do.
        seed: whole number from 0 to 2147483647; picture i uses seed + i; empty draws a random seed.
        guidance: 0 to 30; 1 is off, more follows the class more closely; null is the model's own.
        temperature: 0 to 3; 0 takes the likeliest token (greedy), 1 samples from the model as it is.
        count: number of pictures, 1 to 16.
    """
    with plain_errors():
        for frame in drawing.draw(model, class_name, drawing.read_seed(seed), guidance, temperature, count):
            if not frame.done:
                shown = examples.under_way(models.check_model(model), frame)
                yield shown, frame.status, gr.skip(), gr.skip(), gr.skip(), gr.skip(), frame.seed
        path = str(drawing.save_drawing(components.new_folder(), frame, model, class_name, guidance, temperature))
        shown = examples.drawn(model, class_name, frame)
        script = examples.draw_script(model, class_name, frame, guidance, temperature)
        link = links.drawn(model, class_name, frame.seed, guidance, temperature, count)
    ids = " ".join(map(str, frame.ids[0].tolist()))
    yield shown, frame.status, gr.update(value=path, interactive=True), ids, link, script, frame.seed


@limited
@on_gpu
@plain_errors()
def animation(link, kind) -> str:
    """A drawing as a file that moves.

    Args:
        link: the drawing's link, as draw gives it.
        kind: gif or webp.
    """
    if kind not in player.KINDS:
        raise ValueError(f"the kind of animation is {str(kind)[:40]!r}; it must be one of {', '.join(player.KINDS)}")
    model, class_name, seed, *settings = links.read_drawn(link)
    *_, frame = drawing.draw(model, class_name, seed, *settings)
    _, frames = drawing.played(models.get_model(model), frame.ids)
    factor = max(1, 384 // frames[0].width)
    large = [each.resize((each.width * factor, each.height * factor)) for each in frames]
    path = Path(components.new_folder(), f"drawing-{seed}.{kind}")
    write_atomically(path, player.animated(large, kind))
    return str(path)


@limited
@on_gpu
@plain_errors()
def reconstruct(model, scene, picture=None) -> tuple:
    """Turn a picture into tokens and back again, with each decoder of the model.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null; its centre square is used.
    """
    return tuple(reconstruction.reconstruct(model, scene, picture))


@limited
@on_gpu
@plain_errors()
def look(model, scene, picture=None, part="causal", layer=0, head=-1, token=0) -> tuple:
    """What a token attends to in one layer of a part of the model, and what its patch depends on, in percent.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null.
        part: encoder, causal, bidirectional (the decoders) or ar.
        layer: number of the layer, from 0.
        head: number of the head, from 0; -1 is the mean of all heads.
        token: number of the token, from 0, prefix first.
    """
    return tuple(inside.look(model, scene, picture, part, layer, head, token))


@limited
@on_gpu
@plain_errors()
def poke(model, scene, picture=None, experiment="change", token=0, new_id=0, count=0, other="lighthouse") -> tuple:
    """Change the tokens of a picture, and see which patches move under each decoder.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null.
        experiment: change (one token becomes another), keep (the first tokens) or swap (the prefix with another scene).
        token: for change: number of the token, from 0, prefix first.
        new_id: for change: the id that it becomes.
        count: for keep: how many tokens.
        other: for swap: name of the other scene.
    """
    return tuple(surgery.poke(model, scene, picture, experiment, token, new_id, count, other))


@limited
@on_gpu
@plain_errors()
def edit(model, scene, picture=None, class_name=None, ids="", token=0, code=-1, temperature=1, seed="") -> tuple:
    """The likeliest codes for a token of a picture; or, if one is chosen, the picture with the rest sampled anew.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there are no ids and no picture.
        picture: a PNG, JPEG or WEBP file, or null; used when there are no ids.
        class_name: the class that the model is told.
        ids: the tokens of the picture, numbers with spaces between them; empty: those of the picture.
        token: number of the token, from 0, prefix first.
        code: the id that the token gets, after which the rest is sampled; -1 changes nothing.
        temperature: 0 to 3, of the probabilities and of sampling.
        seed: of sampling; empty draws a random seed.
    """
    asked = editing.Asked(model, scene, picture, class_name, ids, token, temperature)
    return editing.edit(asked, code, drawing.read_seed(seed))


@limited
@on_gpu
@plain_errors()
def complete(model, scene, picture=None, class_name=None, temperature=1, seed="") -> tuple:
    """Keep the upper half of a picture and sample the lower one.

    Args:
        model: name of the model.
        scene: name of a painted scene, used when there is no picture.
        picture: a PNG, JPEG or WEBP file, or null.
        class_name: the class that the model is told.
        temperature: 0 to 3.
        seed: of sampling; empty draws a random seed.
    """
    asked = editing.Asked(model, scene, picture, class_name, "", 0, temperature)
    return editing.complete(asked, drawing.read_seed(seed))


@limited
@on_gpu
@plain_errors()
def predict(scene) -> tuple:
    """The loss of each token of a painted scene, in nats, under the AR models of all comparable tokenizers.

    Args:
        scene: name of a painted scene.
    """
    return tuple(predictability.predict(scene))
