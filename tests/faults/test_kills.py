"""A run of each learner, killed and interrupted in every stage, ends as one that was left alone.

See tests/faults/chains.py for what is compared, bit for bit; only times may differ. In all there are 64 kills, 18 of
them in half-written checkpoints, and 11 interrupts.
"""

from signal import SIGINT, SIGTERM

import keras

from tests.faults.chains import AfterSeconds, Interrupt, Kill, check_same, disturb_again_and_again

SHORT = "--nb_epochs_rat 0.25 --save_step 2 --summ_step 2"  # two epochs of five steps
FULL_PREC = f"--learner full-prec {SHORT} --export_formats litert"
REPORT = [
    Kill(".model*", "write", (0, 20)),
    Kill("plots/*", "open", (0, 2)),
    Interrupt(".report*", SIGTERM),
    Kill("*report*", "rename", (0, 3)),
]


def compare(starts, undisturbed, tmp_path, flags, events):
    whole = undisturbed(flags)
    disturb_again_and_again(starts, tmp_path / "run", flags, events, seed=8)
    check_same(tmp_path / "run", whole)


def trained(directory):
    """A training in this directory. A signal comes as the checkpoint of step 4 is written; the epoch ends at step 5."""
    return [
        Interrupt(f"{directory}/.checkpoint*", SIGINT, at=1, saves=(f"{directory}/checkpoint.npz", 5)),
        Kill(f"{directory}/*.npz", "write", (3, 40)),
        Kill(f"{directory}/*.npz", "link", (0, 2)),
        Kill(f"{directory}/*.npz", "write", (3, 60)),
    ]


def test_full_precision(starts, undisturbed, tmp_path):
    events = [
        Kill(".config*", "write"),
        Kill(".config*", "rename"),
        Kill(".command*", "write"),
        Kill(".command*", "rename"),
        *[AfterSeconds(1.0)] * 4,
        *trained("dense"),
        Kill("dense/*.npz", "write", (3, 60)),
        Kill("dense/*.keras", "write", (0, 20)),
        Kill("dense/*.keras", "rename"),
        Kill(".stages*", "write"),
        Kill(".stages*", "rename"),
        Kill("exports/*", "write", (0, 2)),
        Kill("exports/*", "rename", (0, 2)),
        Interrupt("exports/*", SIGINT),
        Kill("exports/.exports*", "rename"),
        *REPORT,
    ]
    compare(starts, undisturbed, tmp_path, FULL_PREC, events)


def test_search_and_training_under_masks(starts, undisturbed, tmp_path):
    flags = f"""--learner weight-sparse {SHORT} --ws_prune_ratio 0.75 --ws_nb_rlouts 12 --ws_nb_rlouts_min 7
        --ws_nb_iters_ft 4 --ws_nb_finalists 2 --save_path {undisturbed(FULL_PREC)}/dense/model.keras"""
    events = [
        Kill(".stages*", "rename"),
        Kill(".paths*.npz", "write", (3, 40)),
        Kill("search.jsonl", "open", (2, 6)),  # the given allocations are six
        Kill("search/*.npz", "write", (3, 60)),
        Kill("finalists/*resolved*", "write", (3, 40)),
        Interrupt("search.jsonl", SIGTERM, at=2),
        Kill("search.jsonl", "open", (1, 2)),  # the agent learns
        Kill("search/*.npz", "remove"),
        AfterSeconds(1.0),
        Kill("finalists/*finalist*", "write", (3, 40)),
        Interrupt("finalists/*finalist*", SIGINT),
        Kill("finalists/*finalist*", "rename", (0, 2)),
        *trained("training"),
        *REPORT,
    ]
    compare(starts, undisturbed, tmp_path, flags, events)


def test_a_pruner_a_regularizer_and_a_quantizer(starts, undisturbed, tmp_path):
    flags = f"""--learner scheduled {SHORT} --compress tests/faults/schedule.yaml --nb_epochs 3
        --save_path {undisturbed(FULL_PREC)}/dense/model.keras"""
    events = [
        Kill(".schedule*", "write"),
        AfterSeconds(1.0),
        *trained("training"),
        Kill("training/*.npz", "rename", (1, 3)),
        Kill("training/*.npz", "write", (3, 60)),
        AfterSeconds(1.0),
        *REPORT,
    ]
    compare(starts, undisturbed, tmp_path, flags, events)


def test_filters_removed_on_the_way(starts, undisturbed, tmp_path):
    """Killed while it trains the whole network, in a half-written checkpoint, and once it trains the smaller one."""
    flags = f"""--learner scheduled {SHORT} --compress tests/faults/filters.yaml --nb_epochs 4
        --save_path {undisturbed(FULL_PREC)}/dense/model.keras"""
    kills = [
        Kill("training/*.npz", "rename", (1, 4)),
        Kill("training/*.npz", "write", (3, 60)),
        Kill("training/*.npz", "rename", (4, 6)),
    ]
    compare(starts, undisturbed, tmp_path, flags, kills)
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert model.get_layer("conv2d_3").kernel.shape[-1] == 8, "half of its filters are gone"


def test_lottery_tickets(starts, undisturbed, tmp_path):
    events = [
        Kill("dense/.rewind*.npz", "write", (3, 20)),
        Kill("dense/*.npz", "write", (3, 60)),
        *trained("round_1"),
        AfterSeconds(1.0),
        Kill("round_1/*.keras", "write", (0, 20)),
        Kill("round_2/*.npz", "write", (3, 60)),
        Kill("round_1/checkpoint*", "remove", (0, 2)),
        *REPORT,
    ]
    compare(starts, undisturbed, tmp_path, f"--learner lottery-ticket --lt_prune_iterations 2 {SHORT}", events)
