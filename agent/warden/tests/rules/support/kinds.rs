//! One kind of fault for each way in which a fault can behave; all of them turn the one knob of the host.

use agent_faults::{AnyFault, Claim, Example, Fault, FaultError, Kind, Look, Preflight, Scene};
use agent_levers::work::packets::{Delay, Distribution};
use agent_levers::{Direction, Levers, PacketFate, Packets, PathSpec, Shape, TrafficSpec, Victim};
use agent_view::HostView;
use agent_warden::Kinds;
use proto_model::catalogue::{Catalogue, DurationRule, FaultKind};
use proto_model::injection::{EffectState, Observation, Reversal};
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::{KNOB, REDIS};

pub const KINDS: Kinds = Kinds { find, catalogue };

const ALL: [&dyn AnyFault; 13] = [
    &Kind::<Hold>::new(),
    &Kind::<Panic>::new(),
    &Kind::<Fail>::new(),
    &Kind::<Deny>::new(),
    &Kind::<Gated>::new(),
    &Kind::<Final>::new(),
    &Kind::<FinalFail>::new(),
    &Kind::<Again>::new(),
    &Kind::<Already>::new(),
    &Kind::<SlowOne>::new(),
    &Kind::<SlowTwo>::new(),
    &Kind::<SlowThree>::new(),
    &Kind::<Pause>::new(),
];

fn find(kind: &FaultKind) -> Option<&'static dyn AnyFault> {
    ALL.into_iter().find(|fault| &fault.kind() == kind)
}

fn catalogue() -> Catalogue {
    Catalogue(ALL.into_iter().map(AnyFault::describe).collect())
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A number between 0 and 10.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    amount: u32,
}

/// Defines a kind by its name, what its preflight says and what it does.
macro_rules! kind {
    ($name:ident, $text:literal, $reversal:expr, $preflight:expr, $apply:expr) => {
        pub struct $name;

        impl Fault for $name {
            const KIND: &'static str = $text;
            const SUMMARY: &'static str = "for tests";
            const REVERSAL: Reversal = $reversal;
            const MEASURED_BY: &'static str = "reading the knob";
            const UNDONE_BY: &'static str = "turning the knob back";
            type Params = Params;
            type Effect = ();

            fn examples() -> Vec<Example<Params>> {
                Vec::new()
            }
            fn claims(_params: &Params) -> Vec<Claim> {
                vec![Claim(concat!("the knob of ", $text).to_owned())]
            }
            fn preflight(_params: &Params, _scene: &Scene<'_>) -> Result<Preflight, Refusal> {
                $preflight
            }
            fn apply(_params: &Params, _scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<(), FaultError> {
                let apply: fn(&mut Levers<'_>) -> Result<(), FaultError> = $apply;
                apply(levers)
            }
            fn observe(_effect: &(), view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
                let look = Look {
                    boot_ms: view.boot_ms(),
                    seen: serde_json::Value::Null,
                };
                let observation = before.map(|_| Observation {
                    asked: Some(1.0),
                    measured: Some(1.0),
                    unit: "knobs".into(),
                    state: EffectState::Confirmed,
                    note: None,
                });
                Ok((observation, look))
            }
            fn alive(_effect: &(), view: &dyn HostView) -> Result<(), String> {
                match view.knob(KNOB) {
                    Ok(Some(value)) if value == "gone" => Err("the knob is gone".into()),
                    _ => Ok(()),
                }
            }
        }
    };
}

fn turn(levers: &mut Levers<'_>) -> Result<(), FaultError> {
    levers.set_knob(KNOB, "wild")?;
    Ok(())
}

fn yes() -> Result<Preflight, Refusal> {
    Ok(Preflight::default())
}

kind!(Hold, "test.hold", Reversal::Full, yes(), turn);
kind!(Panic, "test.panic", Reversal::Full, yes(), |levers| {
    turn(levers)?;
    panic!("on purpose")
});
kind!(Fail, "test.fail", Reversal::Full, yes(), |levers| {
    turn(levers)?;
    Err(FaultError::Other("half way".into()))
});
kind!(
    Deny,
    "test.deny",
    Reversal::Full,
    Err(Refusal::new("no_match", "params", "nothing here")),
    turn
);
kind!(Gated, "test.gated", Reversal::Full, yes(), |levers| {
    let spec = TrafficSpec {
        peers: Vec::new(),
        except: Vec::new(),
        ports: Vec::new(),
        local_ports: Vec::new(),
        protocol: None,
        interface: None,
        groups: None,
        prober: None,
        direction: Direction::Both,
        fate: PacketFate::Drop.into(),
        gate_ms: levers.context().gate_ms,
    };
    levers.shape_traffic(&spec)?;
    Ok(())
});
/// A path that is waited for at its end.
fn slow(levers: &mut Levers<'_>) -> Result<(), FaultError> {
    let packets = Packets {
        peers: vec![Network::parse("192.0.2.10").unwrap()],
        except: Vec::new(),
        ports: Vec::new(),
        local_ports: Vec::new(),
        protocol: None,
        interface: None,
        direction: Direction::Out,
    };
    let shape = Shape::Delay(Delay {
        delay_us: 1_000_000,
        jitter_us: 0,
        distribution: Distribution::Uniform,
        correlation: 0.0,
    });
    levers.shape_path(&PathSpec { packets, shape })?;
    Ok(())
}

kind!(SlowOne, "test.slow_one", Reversal::Full, yes(), slow);
kind!(SlowTwo, "test.slow_two", Reversal::Full, yes(), slow);
kind!(SlowThree, "test.slow_three", Reversal::Full, yes(), slow);
kind!(Pause, "test.pause", Reversal::Full, yes(), |levers| {
    let redis = levers.view().process(REDIS)?;
    let redis = redis.ok_or_else(|| FaultError::Other("redis does not run".into()))?;
    levers.stop_processes(vec![Victim {
        pid: redis.pid,
        start_time: redis.start_time,
        name: redis.name,
    }])?;
    Ok(())
});
const GONE: Reversal = Reversal::Irreversible {
    why: std::borrow::Cow::Borrowed("the knob has come off"),
};
kind!(Final, "test.final", GONE, yes(), |levers| {
    levers.declare(vec!["the knob came off".to_owned()])?;
    turn(levers)
});
kind!(FinalFail, "test.final_fail", GONE, yes(), |_| Err(FaultError::Other(
    "it holds fast".into()
)));

/// Does its deed for good every second, three times, then cannot go on.
pub struct Again;

/// How often it was done, and when it is due next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rounds {
    done: u32,
    next_ms: u64,
}

impl Fault for Again {
    const KIND: &'static str = "test.again";
    const SUMMARY: &'static str = "for tests";
    const REVERSAL: Reversal = GONE;
    const DURATION: DurationRule = DurationRule::Optional;
    const LASTS_MS: u64 = 2_500;
    const MEASURED_BY: &'static str = "counting";
    const UNDONE_BY: &'static str = "nothing";
    type Params = Params;
    type Effect = Rounds;

    fn examples() -> Vec<Example<Params>> {
        Vec::new()
    }
    fn claims(_params: &Params) -> Vec<Claim> {
        Vec::new()
    }
    fn preflight(_params: &Params, _scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        yes()
    }
    fn apply(_params: &Params, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<Rounds, FaultError> {
        levers.declare(vec!["round 1".to_owned()])?;
        Ok(Rounds {
            done: 1,
            next_ms: scene.view.boot_ms() + 1_000,
        })
    }
    fn observe(_effect: &Rounds, view: &dyn HostView, _before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let look = Look {
            boot_ms: view.boot_ms(),
            seen: serde_json::Value::Null,
        };
        Ok((None, look))
    }
    fn due(effect: &Rounds) -> Option<u64> {
        Some(effect.next_ms)
    }
    fn go_on(_params: &Params, effect: Rounds, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<Rounds, FaultError> {
        if effect.done == 3 {
            return Err(FaultError::Other("three are enough".into()));
        }
        let done = effect.done + 1;
        levers.declare(vec![format!("round {done}")])?;
        Ok(Rounds {
            done,
            next_ms: scene.view.boot_ms() + 1_000,
        })
    }
}

/// Finds everything as it is to be, and does nothing.
pub struct Already;

impl Fault for Already {
    const KIND: &'static str = "test.already";
    const SUMMARY: &'static str = "for tests";
    const MEASURED_BY: &'static str = "nothing";
    const UNDONE_BY: &'static str = "nothing";
    type Params = Params;
    type Effect = serde_json::Value;

    fn examples() -> Vec<Example<Params>> {
        Vec::new()
    }
    fn claims(_params: &Params) -> Vec<Claim> {
        Vec::new()
    }
    fn preflight(_params: &Params, _scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        Ok(Preflight::default())
    }
    fn apply(_params: &Params, _scene: &Scene<'_>, _levers: &mut Levers<'_>) -> Result<serde_json::Value, FaultError> {
        Ok(serde_json::json!({"noop": true}))
    }
    fn observe(_effect: &serde_json::Value, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        Hold::observe(&(), view, before)
    }
}
