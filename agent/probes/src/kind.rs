//! How a kind of probe that only hosts can ask is asked here; what it takes is declared with all other kinds.

use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use proto_probes::{Answer, Probe, Told, read_params};
use serde_json::{Map, Value};

use crate::commands::Commands;

/// One way of asking that needs the host. Implementations live one per file and are listed in `KINDS`.
pub(crate) trait HostProbe: Send + Sync + 'static {
    /// The kind as it is written in experiments.
    type Declared: Probe;

    /// Asks once. After `within` the caller listens no more, and nothing that was started may go on.
    fn ask(params: &<Self::Declared as Probe>::Params, commands: &Commands, within: Duration) -> impl Future<Output = Told> + Send;
}

pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Told> + Send + 'a>>;

pub(crate) trait AnyHostProbe: Send + Sync {
    fn kind(&self) -> &'static str;
    fn ask<'a>(&self, params: &'a Map<String, Value>, commands: &'a Commands, within: Duration) -> Asking<'a>;
}

pub(crate) struct Kind<P>(PhantomData<fn() -> P>);

impl<P> Kind<P> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: HostProbe> AnyHostProbe for Kind<P> {
    fn kind(&self) -> &'static str {
        P::Declared::KIND
    }

    fn ask<'a>(&self, params: &'a Map<String, Value>, commands: &'a Commands, within: Duration) -> Asking<'a> {
        Box::pin(async move {
            match read_params::<P::Declared>(params) {
                Ok(parsed) => P::ask(&parsed, commands, within).await,
                Err(problems) => (Answer::Missing(problems.to_string()), None),
            }
        })
    }
}
