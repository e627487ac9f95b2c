"""Faults that the tests must find: small changes of the package, one at a time, each with what it would ruin.

`mutate.py` applies them to a copy of the tree and runs the nearest tests. Where no test can tell, because nobody relies
on what a change touches, it is called harmless, with the reason. Keep `old` short: it must be found exactly once, and
where the code around it changes, or moves to another of the files, it should not have to follow.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """In one of the package's `files`, `old` becomes `new`; `tests` are test files without test_ and .py.

    Files that there are not do not matter.
    """

    files: tuple[str, ...]
    old: str
    new: str
    why: str  # what is no longer true
    tests: tuple[str, ...]
    harmless: str = ""  # why no test can tell


def _of(files: str, tests: str, *changes: tuple[str, ...]) -> list[Mutant]:
    """Mutants of some files: (old, new, why) or (old, new, why, harmless)."""
    return [Mutant(tuple(files.split()), *change[:3], tuple(tests.split()), *change[3:]) for change in changes]


TRAINING = "train/run.py train/loop.py train/tasks.py train/state.py"


LOSSES = _of(
    "core/losses.py core/config.py",
    "objective tokenizer train",
    ("weights.mse * F.mse", "F.mse", "weight of the squared error"),
    ("weights.l1 * F.l1", "F.l1", "weight of the absolute error"),
    ("weights.aux * F.mse", "F.mse", "weight of the auxiliary loss"),
    ("weights.vq * output", "output", "weight of the VQ loss"),
    ("weights.vq * output", "-weights.vq * output", "latents and codes move towards each other"),
    ("if weights.l1:", "if False:", "the L1 term is there"),
    ("if weights.aux and", "if not weights.aux and", "the auxiliary term is there"),
    (
        "F.mse_loss(output.pixels.float(), pixels)",
        "F.mse_loss(output.pixels.float(), pixels.roll(1, 0))",
        "a picture is compared with its own",
    ),
    (
        "F.l1_loss(output.pixels.float(), pixels)",
        "F.l1_loss(output.pixels.float(), 1 - pixels)",
        "target of the absolute error",
    ),
    ("[row[:, :1], row]", "[row[:, -1:], row]", "the prefix begins with the top left patch"),
    ("pixels[:, :, :patch]", "pixels[:, :, -patch:]", "the prefix shows the first row"),
    ('"b c h (g w) -> b g c h w"', '"b c h (w g) -> b g c h w"', "patches of the first row are whole"),
    (
        "prefix_target(pixels, output.aux.shape[-1]))",
        "prefix_target(pixels, output.aux.shape[-1]).flip(1))",
        "order of the prefix tokens",
    ),
    ("sizes = -scores.mean()", "sizes = scores.mean()", "the decoder raises the critic's scores"),
    ("sizes[1] / sizes[0]", "sizes[0] / sizes[1]", "size of the adversarial gradient"),
    ("for term in (loss, others)", "for term in (loss, loss)", "size of the other terms' gradient"),
    ('"b c (h p) (w q) -> c p q", "mean"', '"b c (h p) (w q) -> c p q", "max"', "what all patches want"),
    ('"b c (h p) (w q) -> c p q"', '"b c (p h) (q w) -> c p q"', "the mean over patches keeps the place in a patch"),
    ("average(reduce(gradient.float(),", "(reduce(gradient.float(),", "sizes are those of all processes"),
    ("clamp_min(1e-8)", "clamp_min(0)", "a flat critic gives no gradient, not an undefined one"),
    ("F.relu(1 - real)", "F.relu(1 + real)", "the critic scores real pictures high"),
    ("F.relu(1 + fake)", "F.relu(1 - fake)", "the critic scores decoded pictures low"),
    ("F.relu(1 + fake)", "F.relu(fake)", "margin of the hinge"),
    ("self.layers(2 * pixels - 1)", "self.layers(pixels)", "the critic sees pixels around 0"),
    (
        '[register_parametrization(conv, "weight", SpectralNorm(conv.weight))',
        "[conv",
        "the critic's slope is bounded",
    ),
    ("return weight / torch.dot", "return weight * torch.dot", "a weight's largest singular value becomes 1"),
    ("range(15)", "range(0)", "the singular value is known well from the first step"),
    ("normalize(matrix @ self._v", "normalize(self._u", "each step estimates it better"),
    ("mse: float = 1.0", "mse: float = 0.0", "default weight"),
    ("aux: float = 0.66", "aux: float = 6.6", "default weight"),
    ("adversarial_start: float = 0.5", "adversarial_start: float = 0.0", "the critic joins late"),
)

PERCEPTUAL = _of(
    "train/perceptual.py",
    "perceptual objective",
    ("self.logits(decoded), wanted", "self.logits(decoded.detach()), wanted", "the gradient reaches the pixels"),
    ("(large - self.mean) / self.std", "large", "pictures are standardised as the classifier expects"),
    ("self.logits(pixels)", "self.logits(1 - pixels)", "the original is the target"),
)

LITE = _of(
    "train/perceptual.py measure/efficientnet.py measure/lite0.py",
    "efficientnet cli",
    ("F.normalize(depth.float(), dim=1)", "depth.float()", "features are of unit length"),
    ("F.normalize(depth.float(), dim=1)", "F.normalize(depth.float(), dim=2)", "along the channels"),
    ("self.features(decoded), wanted", "[f.detach() for f in self.features(decoded)], wanted", "the gradient"),
    ("wanted = self.features(pixels)", "wanted = self.features(1 - pixels)", "the original is the target"),
    ("return gradient * outer,", "return gradient,", "the term's weight reaches the gradient"),
    ("decoded[:PICTURES], pixels[:PICTURES]", "decoded, pixels", "the first pictures of a step"),
    (".square().sum(1).mean()", ".square().mean()", "summed over channels"),
    ("for mine, theirs in pairs]).sum()", "for mine, theirs in pairs])[0]", "summed over depths"),
    ("max(SIDE, pixels.shape[-1])", "SIDE", "large pictures keep their size"),
    ("SIDE = 160", "SIDE = 80", "small pictures are enlarged"),
    ("return 2 * large - 1", "return large", "pictures are standardised as the network expects"),
    ("pretrained=False", "pretrained=True", "nothing is downloaded"),
    ("weights_only=True", "weights_only=False", "a pickle runs no code"),
    ("[*missing, *(", "[*(", "no tensor is missing"),
    ("if not key.startswith(HEAD)", "if False", "no tensor is left over"),
    ("if int(block) >= len(places)", "if False", "weights of a larger network are named"),
    ("lines[1] if lines[0].startswith", "lines[0] if lines[0].startswith", "what does not fit is named"),
    ("network.eval().requires_grad_(False)", "network.requires_grad_(False)", "running means, not those of the batch"),
    ("network.eval().requires_grad_(False)", "network.eval()", "the network is frozen"),
    ('"_depthwise_conv": "conv_dw",\n    "_bn1": "bn2"', '"_depthwise_conv": "conv_dw",\n    "_bn1": "bn3"', "names"),
    ('"_project_conv": "conv_pw", "_bn2"', '"_project_conv": "conv_dw", "_bn2"', "names"),
    ("efficientnet_lite(0, ", "efficientnet_lite(2, ", "the network that measures never trains"),
    ("(0, num_classes=0)", "(0)", "features, not classes"),
    ("pixels.clamp(0, 1)", "pixels", "values are held in [0, 1]"),
    ("(features - self.mean) / self.std", "features - self.mean", "features are standardised for the probe"),
    (".clamp_min(1e-6)", "", "a feature that never changes is no division by 0"),
    ("inference_mode(False)", "inference_mode()", "a probe can be fitted wherever it is made"),
    ("seed * 1_000_003 % 2**31  # the", "seed  # the", "the samples that `evaluate` draws"),
    ("frechet_distance(features, known)", "frechet_distance(features, features)", "distance to the training pictures"),
)

TOKENIZER_TASK = _of(
    TRAINING,
    "objective splits train_settings train perceptual",
    ("settings.lr / 2, (0.5, 0.9)", "settings.lr, (0.5, 0.9)", "learning rate of the critic"),
    ("(0.5, 0.9)", "(0.9, 0.999)", "betas of the critic"),
    ('self.extra = {"critic": self.critic}', "self.extra = {}", "a resumed training has its critic again"),
    ("with torch.no_grad():  #", "with torch.enable_grad():  #", "stage 2 leaves the encoder alone"),
    ("self.source.batch(step)[:1]", "self.source.batch(0)[:1]", "every step has its own pictures"),
    ("source.unseen(64)[0]", "source.batch(0)[0]", "PSNR is that of unseen pictures"),
    ('self.frozen else ("quantizer.codebook",)', "self.frozen else ()", "an average has the codebook as it is"),
    ("step >= first", "step > first", "the first step of the critic"),
    ("min(1.0, 20 * (step", "min(9.0, 20 * (step", "the critic's term grows to its weight, not further"),
    ("min(1.0, 20 * (step + 1 - first)", "min(1.0, 2000 * (step + 1 - first)", "the critic's term joins gradually"),
    ("weights.adversarial_start * self.settings.steps", "weights.adversarial_start", "the critic joins late"),
    ("(pixels, output.pixels.detach().clone())", "(output.pixels.detach().clone(), pixels)", "real and decoded"),
    ("output.pixels.detach().clone()", "output.pixels.clone()", "the critic's step leaves the decoder alone"),
    ("self.critic(output.pixels), _total", "self.critic(pixels), _total", "the critic scores the reconstruction"),
    ('terms["gan"] = weights.adversarial * min', 'terms["gan"] = min', "weight of the adversarial term"),
    ('terms["gan"] = weights', 'terms["gan"] = -weights', "the decoder raises the critic's scores"),
    ("weights.perceptual * self.perceptual(", "self.perceptual(", "weight of the perceptual term"),
    ("self.perceptual(output.pixels, pixels)", "self.perceptual(pixels, output.pixels)", "the target has no gradient"),
    ("weights.features * self.features(", "self.features(", "weight of the features term"),
    ("self.features(output.pixels, pixels)", "self.features(pixels, output.pixels)", "the target has no gradient"),
    ("step >= weights.features_start", "step > weights.features_start", "the first step of the features term"),
    ("weights.features_start * self.settings.steps", "weights.features_start", "the features term joins later"),
    ("if self.quantized:", "if False:", "the codebook follows the latents"),
    ("            self.quantized = []", "            pass", "latents of earlier steps are forgotten"),
    ("            self._train_critic(self.critic)", "            pass", "the critic learns"),
    ("self.critic_optimizer.zero_grad()", "pass", "the critic forgets the decoder's backward pass"),
    ("critic_loss(critic(real), critic(fake))", "critic_loss(critic(fake), critic(real))", "signs"),
    ("(loss / len(self.pairs)).backward()", "loss.backward()", "gradients of parts add up to those of the whole"),
    ("self.critic_optimizer.step()", "pass", "the critic learns"),
    ("parameter.grad = self._average(parameter.grad)", "pass", "the critics of all processes are the same"),
    ('self.accelerator.reduce(value, "mean")', 'self.accelerator.reduce(value, "sum")', "mean over processes"),
    (
        "self.accelerator.gather(torch.stack(list(parts), 1))",
        "torch.stack(list(parts), 1)",
        "the codebook follows the latents of all processes",
    ),
)

AR_TASK = _of(
    TRAINING,
    "splits train_settings train",
    ("self.ids[rows].long(), self.labels[rows]", "self.ids[rows].long(), self.labels[rows.roll(1)]", "ids and labels"),
    ("self.ar.config.classes)", "self.ar.config.classes - 1)", "dropped labels become the null class"),
    ("< self.settings.class_dropout", "> self.settings.class_dropout", "a tenth is dropped, not the others"),
    ("torch.rand(len(labels), ", "torch.rand(1, ", "labels are dropped one by one"),
    ("torch.randint(len(self.ids), (", "torch.randint(len(self.ids) // 2, (", "all pictures come"),
    ("ids.flatten())", "ids.roll(1, 1).flatten())", "a logit predicts its own token"),
    ("network(ids, labels).float()", "network(ids, labels.roll(1)).float()", "a picture's tokens come with its class"),
    ("loss = F.cross_entropy(", "loss = -F.cross_entropy(", "true tokens become likelier"),
    ("= source.unseen(512)", "= source.batch(0)", "test nats are those of unseen pictures"),
    ("nats_per_token(ar, self.seen_ids", "nats_per_token(ar, self.probe_ids", "train nats are those of training"),
    ('"test nats": test.mean()', '"test nats": train.mean()', "test nats are those of unseen pictures"),
    ("        ar.train()\n        return {", "        return {", "dropout goes on after a diagnosis"),
    ("if found != origin:", "if False:", "stale ids are recognised"),
    ('(model), "pictures": source.stamp}', '(model), "pictures": ""}', "ids of other pictures are recognised"),
    ("encode(pixels).int(), labels)", "encode(pixels).int(), labels.flip(0))", "ids and labels in the cache"),
)

FIT = _of(
    TRAINING,
    "train_settings train ablation",
    ('"weight_decay": 0.0}]', '"weight_decay": weight_decay}]', "no decay on norms, biases, tables and embeddings"),
    ("linear = (nn.Linear, nn.Conv2d)", "linear = (nn.Linear,)", "decay on convolutions"),
    ("linear = (nn.Linear, nn.Conv2d)", "linear = (nn.Linear, nn.Conv2d, nn.Embedding)", "no decay on embeddings"),
    ('"weight_decay": weight_decay}', '"weight_decay": 0.0}', "decay on matrices"),
    ("torch.optim.AdamW(groups", "torch.optim.Adam(groups", "decay is apart from the gradient"),
    ("betas=settings.betas", "betas=(0.9, 0.999)", "betas of the settings"),
    ("settings.seed * 1_000_003 + step)", "step)", "another seed is another run"),
    ("settings.seed * 1_000_003 + step)", "settings.seed * 1_000_003)", "another step has other random numbers"),
    ('group["lr"] = learning_rate(settings, step)', "pass", "the learning rate follows its schedule"),
    ("learning_rate(settings, step)", "learning_rate(settings, step + 1)", "a step has its own learning rate"),
    ("accelerator.clip_grad_norm_(task.network.parameters(), settings.clip)", "pass", "gradients are clipped"),
    ("task.before_update()", "pass", "codebook and critic learn"),
    ("  optimizer.step()\n", "  pass\n", "the network learns"),
    ("  optimizer.zero_grad()\n", "  pass\n", "gradients of a step are forgotten"),
    ("  weights.update_average()\n", "  pass\n", "the average follows"),
    ("step + 1 == steps or", "False or", "the last step is saved"),
    ("(step + 1) % settings.save_every", "step % settings.save_every", "steps that are saved"),
    ("settings.ema, settings.keep_best", "0.0, settings.keep_best", "the run holds the average"),
    ("settings.ema, settings.keep_best", "settings.ema, False", "the run holds the best weights"),
    ("task.network.train()", "task.network.eval()", "dropout acts in training"),
    ("accelerator.backward(loss / parts)", "accelerator.backward(loss)", "gradients of parts add up to the whole's"),
    ("rows[first :: parts * accelerator.num_processes]", "rows[first::1]", "a part is a part"),
    ("value.detach() / parts", "value.detach()", "the printed loss is that of a step"),
    (
        "parameter.grad = torch.zeros_like(parameter)",
        "parameter.grad = torch.ones_like(parameter)",
        "gradients start at 0",
    ),
    ("swapped(weights.measured)", "swapped(weights.saved)", "every save is measured by its own weights"),
    ("swapped(weights.saved):\n        task", "swapped(task.network):\n        task", "what the run holds"),
    ("weights.finish(broadcast)", "pass", "the model that training returns"),
)

BUILD = _of(
    TRAINING,
    "train_settings train ablation",
    ("    torch.manual_seed(settings.seed)\n    if", "    if", "the same seed starts from the same weights"),
    (
        "    torch.manual_seed(settings.seed)\n    if",
        "    torch.manual_seed(0)\n    if",
        "another seed starts from other weights",
    ),
    ("Sampling(sizes.guidance, sizes.power)", "Sampling()", "a run has its preset's guidance"),
    ("(1,) if sizes.tokenizer.aligned else (2,)", "(1,)", "a conventional tokenizer has a bidirectional decoder"),
    ("classes=len(source.classes))", "classes=14)", "an AR model knows the classes of its pictures"),
    ('learned["positions"][-tokens:]', 'learned["positions"][:tokens]', "positions of the second decoder"),
    ("for k, v in learned.items() if", "for k, v in learned.items() if False and", "where stage 2 starts"),
    ("if settings.scan !=", "if False and settings.scan !=", "patches are read in the order of the scan"),
    (
        "model.tokenizer.requires_grad_(False)",
        "pass",
        "only what is added learns",
        "the optimiser has the parameters of the task's network alone, and stage 2 encodes without gradients",
    ),
)

SOURCES = _of(
    "data/sources.py",
    "splits train_settings train ablation",
    ("self.test.whole(rows), self.test", "self.train.whole(rows), self.train", "unseen pictures are held out"),
    (" % scenes.TEST_SEED", "", "training seeds are below those of unseen scenes"),
    ("(count, scenes.TEST_SEED + 2**61, ", "(count, self._seed(0), ", "unseen scenes are no training scenes"),
    ("settings.seed * 1_000_003 + number", "number", "another seed has other pictures"),
    ("settings.seed * 1_000_003 + number", "settings.seed * 1_000_003", "another step has other pictures"),
    ("manual_seed(self._seed(step))", "manual_seed(self._seed(0))", "another step has other pictures"),
    ("self._seed(start), self.size", "self._seed(0), self.size", "blocks are different scenes"),
    (
        "labels = torch.randint(len(scenes.CLASSES)",
        "labels = torch.randint(len(scenes.CLASSES) - 1",
        "all classes come",
    ),
    ("/ 255, labels[rows]", "/ 255, labels[rows.roll(1)]", "scenes and labels"),
    ("self.train.batch(step", "self.test.batch(step", "training pictures are not held out"),
    ("self.settings.batch, self.settings.seed)", "self.settings.batch, 0)", "another seed has other pictures"),
    ("self.train.ten_crops()", "self.test.ten_crops()", "the id cache holds training pictures"),
    ('for split in ("train", "test")', 'for split in ("train", "train")', "unseen pictures are held out"),
    ("linspace(0, len(self.test) - 1", "linspace(0, 1", "unseen pictures of all classes"),
    ("self._read(self.source.unseen(count))", "self.source.unseen(count)", "unseen pictures in the order of the scan"),
    ("self._read(self.source.batch(step))", "self.source.batch(step)", "batches in the order of the scan"),
    ('f"scenes {settings.seed} {', 'f"scenes {', "ids of other scenes are recognised"),
    ('f"{source.stamp} {scan}"', "source.stamp", "ids of another scan are recognised"),
)

SAMPLING = _of(
    "core/sampling.py",
    "paper sampling",
    ("truncate(logits / sampling.temperature", "truncate(logits", "temperature"),
    ("logits / sampling.temperature", "logits * sampling.temperature", "a low temperature sharpens"),
    ("scale * (conditional - unconditional)", "scale * (unconditional - conditional)", "guidance towards the class"),
    ("= unconditional + scale", "= conditional + scale", "guidance of scale 1 is none"),
    ("conditional, unconditional = logits.chunk(2)", "unconditional, conditional = logits.chunk(2)", "which is which"),
    ("ar.config.classes)\n", "ar.config.classes - 1)\n", "guidance is away from the null class"),
    ("torch.cat([labels, null])", "torch.cat([null, labels])", "which rows are conditional"),
    ("torch.arange(tokens) / tokens", "torch.arange(tokens) / (tokens - 1)", "the ramp ends just under g"),
    ("1 + (guidance - 1) * (1", "guidance * (1", "the ramp begins at 1"),
    ("t**power", "t", "power of the ramp"),
    ("1 - torch.cos(", "1 + torch.cos(", "the ramp rises"),
    ("ramp[index]", "ramp[-1]", "a step has its own scale"),
    ("logits < threshold", "logits <= threshold", "the top k, not one less"),
    ("cumsum(-1) - probabilities >= top_p", "cumsum(-1) >= top_p", "the nucleus reaches p"),
    ("descending=True", "descending=False", "the nucleus holds the likeliest"),
    ("sampling.top_k, sampling.top_p)", "None, sampling.top_p)", "top k"),
    ("sampling.top_k, sampling.top_p)", "sampling.top_k, None)", "top p"),
    ("(logits + noise).argmax", "(logits - noise).argmax", "codes come as often as they should"),
    ("return -noise", "return noise", "codes come as often as they should"),
    ("noise[:, index]", "noise[:, 0]", "a token has its own noise"),
    ("manual_seed(seed))", "manual_seed(0))", "a picture has its own seed"),
    ("caches[0].used - 1 :", "caches[0].used :", "the cache continues where it is"),
    (
        "clamp_min_(1e-30)",
        "clamp_min_(1e-25)",
        "the noise is finite",
        "exponential numbers so small come once in 1e25 draws",
    ),
)

LAYERS = _of(
    "core/layers.py measure/probe.py",
    "paper layers parity",
    ("self.dropout if self.training else 0.0", "0.0", "attention weights are dropped in training"),
    ("self.dropout if self.training else 0.0", "self.dropout", "and not in evaluation"),
    (
        "self.dropout(self.attention(self.norm1(x), rope, cache))",
        "self.attention(self.norm1(x), rope, cache)",
        "dropout",
    ),
    ("self.dropout(self.mlp(self.norm2(x)))", "self.mlp(self.norm2(x))", "dropout after the MLP"),
    (".tril(keys - queries)", ".tril(keys - queries - 1)", "a query sees itself"),
    (".tril(keys - queries)", ".tril(keys - queries + 1)", "a query does not see the next position"),
    ("is_causal=self.causal and square", "is_causal=False", "the causal mask"),
    ("is_causal=self.causal and square", "is_causal=square", "encoder and second decoder see everything"),
    ("scores.masked_fill(~causal", "scores.masked_fill(causal", "the mask of the written-out form"),
    ("q.shape[-1] ** -0.5", "q.shape[-1] ** -1", "scale of the scores"),
    ("self.q_norm(q), self.k_norm(k)", "q, k", "norm of queries and keys"),
    ("x0 * cos - x1 * sin", "x0 * cos + x1 * sin", "rotation"),
    ("base: float = 10000.0", "base: float = 1000.0", "base of the rotation"),
    ("_angles(prefix_tokens + torch", "_angles(torch", "image axes begin behind the prefix"),
    ("torch.zeros(1, pairs, 2", "torch.ones(1, pairs, 2", "row of the class token"),
    ("torch.cat([rows, columns], 1)", "torch.cat([columns, rows], 1)", "rows first, then columns"),
    ("keepdim=True) + 1e-5)", "keepdim=True) + 1e-3)", "epsilon of the norm"),
    ("F.silu(self.gate(x))", "F.gelu(self.gate(x))", "SwiGLU"),
    ("F.gelu(self.up(x))", "F.relu(self.up(x))", "GELU"),
    ("self.used = end", "self.used = end - 1", "the cache continues where it is"),
    ("F.gelu(self.up(x))", 'F.gelu(self.up(x), approximate="tanh")', "exact GELU"),
    ("q.shape[-2] > 1", "q.shape[-2] > 2", "two queries behind a cache have a causal mask"),
)

QUANTIZER = _of(
    "core/quantizer.py",
    "paper tokenizer objective",
    ("decay = 0.99", "decay = 0.9", "decay of the usage"),
    ("0.25 * F.mse_loss", "1.0 * F.mse_loss", "weight of the commitment"),
    ("F.mse_loss(latents, rows.detach())", "F.mse_loss(latents, rows)", "the commitment moves latents only"),
    ("F.mse_loss(rows, latents.detach())", "F.mse_loss(rows, latents)", "the codebook's loss moves codes only"),
    ("+ F.mse_loss(rows,", "+ 0 * F.mse_loss(rows,", "codes move to latents"),
    ("return latents + (rows - latents).detach(), ids", "return rows, ids", "gradients go straight through"),
    (".argmin(1)", ".argmax(1)", "the nearest code"),
    ("- 2 * x @ codes.T", "+ 2 * x @ codes.T", "squared distance"),
    ("+ codes.square().sum(1)", "", "squared distance"),
    ("lerp_(share, 1 - self.decay)", "lerp_(share, self.decay)", "usage follows slowly"),
    ("torch.randint(len(latents), (codes,)", "torch.randint(1, (codes,)", "each dead code gets its own latent"),
    ("torch.exp(-self.sharpness", "torch.exp(self.sharpness", "a code in use stays"),
    ("sharpness = 10", "sharpness = 1", "a code in use stays"),
    ("* self.usage / (1 - self.decay)", "* self.usage", "usage is measured in its own decay"),
    ("(1 - self.decay) - self.epsilon", "(1 - self.decay)", "a dead code keeps a thousandth"),
    ("epsilon = 1e-3", "epsilon = 1e-2", "a dead code keeps a thousandth"),
    (
        "(1 - move) * self.codebook + move * anchors",
        "move * self.codebook + (1 - move) * anchors",
        "dead codes move, others stay",
    ),
    ("else x.to(y.device)", "else y", "the codebook stays float32"),
    ("trunc_normal_(self.codebook, std=0.02)", "trunc_normal_(self.codebook, std=0.2)", "initialisation"),
    ("persistent=False", "persistent=True", "usage stays out of checkpoints"),
)

TOKENIZER = _of(
    "core/tokenizer.py",
    "paper tokenizer measures parity shapes costs",
    ("torch.randn(rows, width) * width**-0.5", "torch.randn(rows, width) * 0.02", "initialisation of tables"),
    ("trunc_normal_(module.weight, std=0.02)", "trunc_normal_(module.weight, std=0.2)", "initialisation"),
    ("nn.init.zeros_(module.bias)", "nn.init.ones_(module.bias)", "biases begin at 0"),
    ("config.encoder_heads, config.encoder_causal", "config.encoder_heads, False", "a causal encoder"),
    ("config.encoder_heads, config.encoder_causal", "config.encoder_heads, True", "an encoder sees everything"),
    ("config.decoder_heads, causal)", "config.decoder_heads, False)", "a causal decoder"),
    ("config.decoder_heads, causal)", "config.decoder_heads, True)", "a bidirectional decoder"),
    ("x[:, -(grid**2) :]", "x[:, -(grid**2) - 1 : -1]", "patch i is the output at token i"),
    ("x[:, 1 : 1 + prefix]", "x[:, :prefix]", "prefix outputs are those at its tokens"),
    ("x[:, patches.shape[1] :]", "x[:, -self.queries.shape[0] - 1 : -1]", "latents stand at the queries"),
    ("(self.queries + self.query_positions)", "self.queries", "positions of the queries"),
    (' b (h w) d") + self.patch_positions', ' b (h w) d")', "positions of the patches"),
    ("self.embed(codes)], 1) + self.positions", "self.embed(codes)], 1)", "positions of the decoder"),
    ("self.conv(x).sigmoid()", "self.conv(x).clamp(0, 1)", "pixels"),
    ("(p1 p2 c) -> b c", "(c p1 p2) -> b c", "layout of a patch"),
    (
        "causal or not config.aligned else",
        "causal else",
        "a conventional decoder differs from a causal one by its mask",
    ),
    ("x[:, 1 : 1 + prefix], 1, prefix)", "x[:, 1 : 1 + prefix].flip(1), 1, prefix)", "order of the prefix"),
    ("queries.dtype)))[1]", "queries.dtype)).roll(1, 1))[1]", "ids in the order of the tokens"),
    ("self.head(x[", "(self.aux_head or self.head)(x[", "pictures come from the head of pictures"),
)

PROBE = _of(
    "measure/probe.py",
    "probe",
    ("if outer is None else outer(q, k, v)", "", "recording inside recording"),
    ('vars(layer).pop("attend", None)', "pass", "after recording a model is as it was"),
    ("patchwise.diagonal().T", "patchwise[0].expand(patches, -1)", "a patch's own pixels are what counts"),
)

AR = _of(
    "core/ar.py",
    "paper layers parity sampling",
    ("x = self.dropout(x)", "pass", "embeddings are dropped in training"),
    ("nn.Dropout(config.dropout)", "nn.Dropout(0.0)", "embeddings are dropped in training"),
    ("dropout=config.dropout)", "dropout=0.0)", "attention weights are dropped in training"),
    ("RMSNorm, config.dropout)", "RMSNorm)", "attention's and MLP's outputs are dropped in training"),
    ("nn.init.normal_(module.weight, std=0.02)", "nn.init.normal_(module.weight, std=0.2)", "initialisation"),
    ("nn.init.zeros_(self.output.weight)", "pass", "a fresh model predicts all codes alike"),
    ("causal=True", "causal=False", "the future is not seen"),
    ("qk_norm=True", "qk_norm=False", "norm of queries and keys"),
    ("self.config.codebook_size + 1)", "self.config.codebook_size)", "rows of the classes"),
    ("self.embedding(ids[:, :-1])", "self.embedding(ids[:, 1:])", "a token does not see itself"),
    ("self.config.classes, device", "0, device", "without labels it is the null class"),
    ("[start : start + x.shape[1]]", "[: x.shape[1]]", "positions behind a cache"),
    ("self.output(self.norm(x))", "self.output(x)", "the last norm"),
)

METRICS = _of(
    "data/sources.py measure/evaluation.py measure/judge.py measure/metrics.py",
    "metrics splits measures",
    ("return -10 * (decoded", "return -20 * (decoded", "decibels"),
    ("square().mean((1, 3))", "square().mean((1, 2))", "rows, not columns"),
    ("0.01**2, 0.03**2", "0.01**2, 0.3**2", "constants of SSIM"),
    ("- 2 * cross", "- cross", "Frechet distance"),
    ("cov_a.trace() + cov_b", "cov_a.trace() - cov_b", "Frechet distance"),
    (
        "(measured.real[name], decoded.features[name])",
        "(measured.real[name], measured.real[name])",
        "rFD is that of reconstructions",
    ),
    ('results[f"{key}gfd"] - results', 'results[f"{key}gfd"] + results', "gap"),
    ('rfd_stage{stages[-1]}"]', 'rfd_stage{stages[0]}"]', "the decoder that draws"),
    ("rows[0] / rows[1]", "rows[1] / rows[0]", "row ratio"),
    ("hits[..., 0]", "hits[..., -1]", "the likeliest code"),
    ("ar(ids[part], labels[part])", "ar(ids[part], labels[part].roll(1))", "tokens come with their class"),
    ("mean(0).tolist()) / math.log(2)", "mean(0).tolist())", "bits"),
    ('f"{name}_prefix": means[:prefix]', 'f"{name}_prefix": means[prefix:]', "the prefix"),
    ("argmax(1).cpu() == labels", "argmax(1).cpu() != labels", "accuracy"),
    ("unique()) / codes", "unique()) / len(ids)", "share of the codes"),
    ("minlength=codes).double() / ids", "minlength=codes).double() / 2 / ids", "entropy"),
    ("seed=first + rows.start", "seed=first", "samples of all batches differ"),
    ("first = scenes.TEST_SEED + seed", "first = seed", "unseen scenes have test seeds"),
    ("* 1_000_003 + part.start\n", "* 1_000_003\n", "batches of unseen scenes differ"),
    ("pictures.whole(rows), pictures.labels[rows", "pictures.whole(rows), pictures.labels[0 * rows", "labels"),
    (
        '_measure(model.tokenizer, {"judge": judge.features}, training',
        '_measure(model.tokenizer, {"judge": judge.features}, pictures',
        "judge_train is of training",
    ),
    ("    torch.manual_seed(seed)\n    judge", "    judge", "the same seed gives the same judge"),
    ("            self.optimizer.zero_grad()\n", "", "gradients of a step are forgotten"),
    ("loss = F.cross_entropy(self", "loss = -F.cross_entropy(self", "the judge learns"),
    ("pixels.mean(1, keepdim=True)", "pixels[:, :1]", "details have no colour"),
    ("looks[_DETAILS].argmax(1) == labels", "looks[_DETAILS].argmax(1) != labels", "shares put into their class"),
    ("_judged(judge, samples, labels", "_judged(judge, measured.real, labels", "details of samples"),
)

DATA = _of(
    "data/augment.py data/pictures.py data/folders.py",
    "splits data",
    ('(split == "test")]', '(split != "test")]', "which side is held out"),
    ("< 256 for digest", "< 2560 for digest", "a twentieth is held out"),
    ('fsencode(f"{label}/', 'fsencode(f"/', "which pictures are held out"),
    ('if split == "test":', 'if split == "none":', "a test folder holds the unseen pictures"),
    ("(label, files[label], split)", '(label, files[label], "train")', "pictures are held out"),
    ("self.size), self.labels[rows.to(self.device)]", "self.size), self.labels[rows.roll(1)]", "pictures and labels"),
    (".repeat(10)", ".repeat_interleave(10)", "crops and labels"),
    ("(seed * 1_000_003 + step) % 2**32", "step % 2**32", "another seed has other pictures"),
    ("(seed * 1_000_003 + step) % 2**32", "(seed * 1_000_003) % 2**32", "another step has other pictures"),
    ("0.6 + 0.4 * area", "0.1 + 0.9 * area", "size of a cut"),
    ("flip < 0.5", "flip < 0.9", "half are mirrored"),
    ("0.9 + 0.2 * number", "0.5 + 1.0 * number", "colours change a little"),
    ("if crop >= 5", "if crop > 5", "mirrored crops"),
    ("0.299 * pixels", "0.114 * pixels", "grey"),
    ("pictures.names, pictures.stamps)", "pictures.names)", "changed files are recognised"),
    ("self.pool[rows.to(self.device)]\n        else", "self.pool[rows.flip(0)]\n        else", "pictures and labels"),
)

ABLATION = _of(
    "study/ablation.py study/claims.py study/rows.py",
    "measures ablation splits",
    ("bound = 2 * sum(", "bound = 1 * sum(", "two deviations"),
    ("spread**2 / count", "spread**2", "standard error of a mean"),
    ('["mean"][key] - rows[smaller]', '["mean"][key] + rows[smaller]', "difference"),
    ("difference > bound", "difference < bound", "what holds"),
    ('run["unigram_entropy"] - run["nats"]', 'run["nats"] - run["unigram_entropy"]', "gain"),
    ("[past - others for", "[others - past for", "debt"),
    ("aux=0.0)", "aux=0.66)", "row C has no auxiliary loss"),
    ('"aligned": False, "prefix": False}', '"aligned": False}', "row A has no prefix"),
    ('over="D"', 'over="C"', "row F continues row D"),
    ("seed=seed, scan=row.scan", "seed=0, scan=row.scan", "another seed is another run"),
    ("seed=seed, scan=row.scan", "seed=seed", "a row has its scan"),
    ("whole_pictures(source.test,", "whole_pictures(source.train,", "unseen pictures are measured"),
    ("unseen_scenes(count, TEST_SEED,", "unseen_scenes(count, seed,", "all rows are measured on the same pictures"),
    ('"nats", "A", "B"', '"nats", "B", "A"', "which row should be larger"),
    ("scanned(x, scan, patch), y)", "x, y)", "a scanned row is measured in its order"),
    (
        "self.judge.features(unscanned(pixels, self.scan, self.patch))",
        "self.judge.features(pixels)",
        "the judge sees pictures as they are",
    ),
)

WEIGHTS = _of(
    "train/average.py",
    "weights train_settings train",
    ("min(self.ema, (1 + count) / (10 + count))", "self.ema", "the random start is soon forgotten"),
    ("(1 + count) / (10 + count)", "(1 + count) / (2 + count)", "the random start is soon forgotten"),
    ('min(self.history, key=lambda row: row["test', 'max(self.history, key=lambda row: row["test', "the best"),
    ("if self.best_row is self.history[-1]:", "if True:", "the best are kept, not the last"),
    ("if self.best_row is self.history[-1]:", "if False:", "the best are kept, not the first"),
    ("for name in self.copied:", "for name in ():", "the codebook is copied"),
    ("self.measured if self.best is None else self.best", "self.measured", "the run holds the best"),
    ("self.network if self.average is None else self.average.module", "self.network", "the average is measured"),
    ("_fill(self.best, _tensors(self.measured))", "_fill(self.best, _tensors(self.network))", "the best average"),
    ("_fill(self.network, live)", "pass", "training goes on from the live weights"),
    ("self.average.update_parameters(self.network)", "pass", "the average follows"),
)

SETTINGS = _of(
    "train/settings.py",
    "train_settings paper train",
    ("settings.lr * (step + 1) /", "settings.lr * step /", "warm-up"),
    ("if step < settings.warmup", "if step <= settings.warmup", "end of the warm-up"),
    ("1 + math.cos(math.pi * done)", "1 - math.cos(math.pi * done)", "the learning rate falls"),
    ("max(1, settings.steps - settings.warmup)", "max(1, settings.steps)", "it has fallen at the end"),
    ("settings.final_lr + (settings.lr - settings.final_lr)", "settings.lr", "it falls to final_lr"),
    ("= (0.9, 0.96)", "= (0.9, 0.999)", "betas of the paper"),
    ("weight_decay: float = 0.03", "weight_decay: float = 0.3", "decay of the paper"),
    ("clip: float = 1.0", "clip: float = 10.0", "clipping of the paper"),
    ("class_dropout: float = 0.1", "class_dropout: float = 0.0", "null class of the paper"),
    ("1_280_000 // 2048", "1_280_000 // 256", "steps of the paper"),
)

SAID = [
    *_of(
        "train/log.py train/curve.py train/progress.py",
        "train_log",
        ("<= steps]", "< steps]", "a resumed log keeps the row it goes on from"),
        ('row["part"] != part or', 'row["part"] == part or', "rows of other parts stay"),
        ("self.unsent = []\n\n\n", "pass\n\n\n", "a tracker gets a row once"),
        ("self.path.rename(kept)", "pass", "a foreign file stays"),
        ("sum(self.saving)) / (count - 1)", "0) / (count - 1)", "saves are no steps"),
        ("+ one * self.saves_left", "", "saves take time"),
        ("step > self.done for", "step >= self.done for", "saves to come"),
        ("self.told = True\n        count", "count", "said once"),
        ("for row in rows) < LEAST", "for row in rows) < 0", "no curve of a point"),
    ),
    *_of(
        "train/start.py",
        "train_start",
        ("known[:first], known[-1]", "known[:first], known[0]", "the null class stays"),
        ("known[first + old.index(name)]", "known[first + row]", "a class keeps its own embedding"),
        ("usage.fill_(1 /", "usage.fill_(0 /", "no code is dead at first"),
        ("value.copy_(value.half())", "pass", "ids are those of what the RUN holds"),
        ("settings.lr / GENTLE", "settings.lr", "fine-tuning has a lower learning rate"),
        ("settings.steps // GENTLE", "settings.steps", "fine-tuning is shorter"),
        ("tokenizer.decoder2 = None", "pass", "a decoder of other tokens goes"),
        ("decoder2.requires_grad_(True)", "decoder2", "the second decoder is trained"),
    ),
    *_of(
        "train/further.py",
        "train_further",
        ("return 1 if config.aligned else 2", "return 2", "stage 1 trains against the causal decoder"),
        ("return 1 if config.aligned else 2", "return 1", "a conventional decoder"),
        ("(tokenizer.config) if further else 2", "(tokenizer.config)", "a second decoder is trained unless further"),
        ("= learned_stage(tokenizer.config) if further else 2", "= 2", "which decoder is trained further"),
        ("return self.decoder.outputs(codes)", "return self.decoder(codes), None", "the auxiliary loss goes on"),
        ("or further_in(folder):", "or False:", "the decoder from before is kept once"),
        ("if not furthered(model.info):", "if True:", "--replace begins with the decoder from before"),
        ("if origin != {", "if False and origin != {", "a decoder of other tokens is not taken"),
        ("        tokenizer.decoder2 = None", "        pass", "no second decoder stays beside it"),
    ),
    *_of(
        "train/loop.py train/state.py train/start.py",
        "train_further",
        ("            keep_learned(self.folder)", "            pass", "nothing is lost without a word"),
        ("if not furthered(task.model.info):", "if False:", "no decoder of an earlier tokenizer stays"),
        ('["tokenizer"].aligned) or furthered(info):', '["tokenizer"].aligned):', "a RUN says what it holds"),
        ("if not (second or furthered(given.info)):", "if not second:", "what a checkpoint says of it goes along"),
        ("        _further(model, given, start, fresh)", "        train_further(model.tokenizer)", "where it begins"),
    ),
    *_of(
        "study/ablation.py study/progress.py",
        "ablation units",
        ("spent / self.behind if self.behind", "1.0 if self.behind", "the estimate follows what parts took"),
        ("if entry not in self.left and", "if", "a part is counted once"),
        ("self.left.remove((name, seed, kind))", "pass", "parts that are done are not ahead"),
    ),
]

OTHERS = [
    *_of(
        "core/config.py",
        "paper shapes tokenizer",
        ("dropout: float = 0.1", "dropout: float = 0.0", "dropout of the paper"),
        ("1 + self.grid if self.prefix", "self.grid if self.prefix", "prefix tokens"),
        ("ARConfig(), 16.0, 1.8", "ARConfig(), 1.8, 16.0", "guidance of the paper"),
        ("buffer_tokens: int = 32", "buffer_tokens: int = 64", "buffer tokens of the official code"),
    ),
    *_of(
        "data/scan.py",
        "scan ablation",
        (".argsort(), patch)", ", patch)", "there and back"),
        ("if number % 2 else row", "if number % 2 == 0 else row", "the serpentine begins to the right"),
    ),
    *_of(
        "study/lookahead.py",
        "measures ablation",
        ("attention.causal = False", "attention.causal = True", "a masked model sees the others"),
        ("return order < count", "return order <= count", "how many tokens are hidden"),
        ("count[: pictures // 2] = 1", "pass", "half have one hidden token, as in measuring"),
        (
            "logits[hidden].float(), wanted[hidden]",
            "logits.flatten(0, 1), wanted.flatten()",
            "hidden tokens are predicted",
        ),
    ),
    *_of(
        "files.py machine.py model.py store/find.py store/folder.py core/sampling.py",
        "model sampling",
        ("self.eval()", "pass", "a new model has no dropout"),
        ("_modules=self._modules.copy()", "_modules=self._modules", "a shallow copy has parts of its own"),
        ("clamp(0, 1) * 255).round()", "clamp(0, 1) * 255)", "8 bits are rounded"),
        ("list(range(first, first + pictures))", "[first] * pictures", "a picture has its own seed"),
    ),
    *_of(
        "cli/measuring.py measure/report.py",
        "splits",
        ("in (source.test, source.train))", "in (source.train, source.test))", "unseen pictures are measured"),
    ),
    *_of(
        "store/rows.py store/folder.py",
        "rows",
        (".bfloat16()\n", ".half()\n", "what was stored is stored alike again"),
        ("flat.amax(1), -flat", "flat.amax(), -flat", "each row has its scale"),
        (" and (scales > 0).all()", "", "scales are positive"),
        ("<= LIMIT * ", "<= 9 * ", "a matrix that loses much keeps 16 bits"),
        ('if dtype == torch.int8 and part == "encoder"', "if False", "tokens stay what they are"),
    ),
    *_of(
        "store/convert.py files.py",
        "failures",
        ("os.replace(old, out)", "pass", "after a failure the old checkpoint is there"),
    ),
    *_of(
        "demo/drawing.py demo/models.py",
        "failures",
        ("with running(), one_thread(small)", "with one_thread(small)", "one step of one model at a time"),
    ),
]

MATCH = _of(
    "study/units.py study/matched.py study/conclusions.py study/course.py",
    "units course verdict",
    ("held.get(name) != wanted[name]", "False", "a folder has units with the same settings"),
    ("if len(pool.first) < plan.counts[1]:", "if False:", "too few pictures are noticed before any training"),
    ("settings, run, held, pool", "settings, run, False, pool", "a stopped tokenizer is continued"),
    ("if not finished(run", "if True or not finished(run", "a finished tokenizer is taken"),
    ("< plan.judges}", "<= plan.judges}", "a plan has its number of judges"),
    ("and plan.published_judges", "and False", "the published judges are taken"),
    ("math.log2(sequences) / math.log2(codes)", "math.log2(codes) / math.log2(sequences)", "entropy cliff"),
    ("reach = (high - low) / 2", "reach = high - low", "the difference that would show"),
    ("one.endpoint != ENDPOINT and one", "one", "the endpoint is not one of the others"),
    ("self.tokenizer.quantizer.revive(*self.chosen.pop())", "self.chosen.pop()", "dead codes move"),
    ("(1,) if sizes.tokenizer.aligned else (2,)", "(1,)", "a conventional tokenizer has a bidirectional decoder"),
    ("seed, under_way.watch)", "seed)", "a course is measured on the way"),
)

APP = _of(
    "demo/tell.py demo/edit.py demo/links.py demo/page.py demo/words.py demo/boards.py demo/predict.py",
    "app_tabs",
    ("[0] > VISIBLE", "[0] >= 0", "only visible changes are outlined"),
    ("list(range(step, patches))", "list(range(patches))", "a patch that was told is not faded"),
    ("total / math.log(2)", "total", "bits are not nats"),
    ("pixels = None if sampled", "pixels = None if not sampled", "a painted scene is told unless sampled"),
    ("case.ids[:, :token]", "case.ids[:, : token + 1]", "the chosen code takes the token's place"),
    ("logits / case.temperature", "logits", "probabilities follow the temperature"),
    ("config.grid * (config.grid // 2)", "config.grid * config.grid // 4", "half of the patches are kept"),
    ("len(found) == config.tokens and", "", "a picture has all its ids"),
    ('updates[parts["own"]] = None', "pass", "Back takes an upload away"),
    (" if name == shown else ()", "", "another model shows what it has made"),
    ("100 * sum(found.top1) / len", "100 * sum(found.top1) * len", "first choices are a mean"),
    ("if set(DRAWN) - set(given):", "if not given:", "a link of another kind is refused"),
    ("least <= value <= most", "True", "a link sets nothing that a slider cannot have"),
    ('wrong.append(f"{key}=', 'str(f"{key}=', "what a link asks in vain is said"),
    ("_luminance(colour) > 0.179", "_luminance(colour) > 0.5", "numbers can be read on each colour"),
    ('"0.003 to 0.011", "causal"', '"0.003 to 0.012", "causal"', "the page shows what was measured"),
) + _of(
    "demo/drawing.py demo/endpoints.py demo/player.py demo/guard.py",
    "app app_guard",
    ("_tiled(tokenizer, *early, known)", "_tiled(tokenizer, *early, known - 1)", "each frame shows its own tokens"),
    ("MAX_FRAME_PIXELS // pixels", "10**9", "large drawings are sent in few frames"),
    ("frame.ids[0].tolist()", "frame.ids[-1].tolist()", "the ids are those of the first picture"),
    ("divmod(index, columns)", "divmod(index, columns + 1)", "frames stand where the page looks for them"),
    ("loop=0", "loop=1", "an animation repeats"),
    ("ANALYTICS_MAX_EVENTS = 100", "ANALYTICS_MAX_EVENTS = 10_000", "the list of calls is short"),
)

RECORDED = _of(
    "recorded.py",
    "recorded",
    ("calls.append(partial(function, *given, **more))", "function(*given, **more)", "what is noted runs at once"),
    ("len(codes) > FEW", "len(codes) >= FEW", "how many pictures are decoded by a recorded pass"),
    ("self.busy.acquire(blocking=False)", "True", "two threads replay one recording at the same time"),
    ("            self.broken = True\n", "", "a recording that failed is tried, and fails, at every call"),
    ("            self.busy.release()\n", "            pass\n", "after the first picture all are decoded plainly"),
)

MUTANTS: list[Mutant] = [
    *(LOSSES + PERCEPTUAL + LITE + TOKENIZER_TASK + AR_TASK + FIT + BUILD + SOURCES + SAMPLING + LAYERS),
    *(
        QUANTIZER
        + TOKENIZER
        + PROBE
        + AR
        + METRICS
        + DATA
        + ABLATION
        + MATCH
        + WEIGHTS
        + SETTINGS
        + SAID
        + APP
        + RECORDED
        + OTHERS
    ),
]
