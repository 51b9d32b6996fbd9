import pytest

from rl_agents.ddpg.config import DdpgConfig
from utils.errors import InputError
from utils.flags import check_config, flag_fields


def test_flags_keep_their_historic_names_and_defaults():
    assert {name: field.default for name, field in flag_fields(DdpgConfig).items()} == {
        "ddpg_actor_depth": 2,
        "ddpg_actor_width": 64,
        "ddpg_critic_depth": 2,
        "ddpg_critic_width": 64,
        "ddpg_tau": 0.01,
        "ddpg_gamma": 0.9,
        "ddpg_lrn_rate": 1e-3,
        "ddpg_loss_w_dcy": 0.0,
        "ddpg_record_step": 1,
        "ddpg_batch_size": 64,
        "ddpg_enbl_bsln_func": True,
        "ddpg_bsln_decy_rate": 0.95,
        "ddpg_noise_type": "action",
        "ddpg_noise_prtl": "tdecy",
        "ddpg_noise_std_init": 0.1,
        "ddpg_noise_dst_finl": 1e-2,
        "ddpg_noise_adpt_rat": 1.03,
        "ddpg_noise_std_finl": 0.02,
    }


def test_the_defaults_are_allowed():
    check_config(DdpgConfig())


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"noise_type": "ou"}, "ddpg_noise_type"),
        ({"noise_protocol": "fixed"}, "ddpg_noise_prtl"),
        ({"target_update_rate": 0.0}, "ddpg_tau"),
        ({"noise_adapt_rate": 1.0}, "ddpg_noise_adpt_rat"),
        ({"batch_size": 0}, "ddpg_batch_size"),
        ({"discount": 1.5}, "ddpg_gamma"),
    ],
)
def test_a_value_out_of_range_is_named(values, flag):
    with pytest.raises(InputError, match=f"--{flag} "):
        check_config(DdpgConfig(**values))
