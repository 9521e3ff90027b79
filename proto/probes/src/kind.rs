//! What a kind of probe is: a description, a check, and how it is asked. The traits are here; each kind has a file of its own.

use std::marker::PhantomData;
use std::pin::Pin;

use proto_model::probe::WITHIN;
use proto_model::problem::{Problem, Problems};
use proto_model::quantity::Millis;
use proto_model::schema;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::address::AddressRule;
use crate::answer::{Answer, Told};

/// A set of parameters with what it shows.
pub struct Example<P> {
    pub says: &'static str,
    pub params: P,
}

/// Who can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The controller and every host.
    Anyone,
    /// Hosts only: the agent registers how it is asked.
    Hosts,
}

/// What no answer in time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The system under test did not answer.
    Bad,
    /// Only the meter did not.
    Missing,
}

/// One way of asking. Implementations live one per file and are listed in `KINDS`.
///
/// Every kind also takes `within`, the slowest answer that is good; it is no field of `Params`.
pub trait Probe: Send + Sync + 'static {
    const KIND: &'static str;
    /// When an answer is good, after the words "good when".
    const SUMMARY: &'static str;
    /// The parameter that a text alone stands for.
    const SHORTHAND: &'static str;
    const ASKED_BY: AskedBy = AskedBy::Anyone;
    const TIMEOUT: Timeout = Timeout::Bad;
    /// Each field's doc comment is its help text.
    type Params: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;

    fn examples() -> Vec<Example<Self::Params>>;
    /// What the types cannot say. Paths begin with `params.`, or are `params`.
    fn validate(_params: &Self::Params) -> Result<(), Problems> {
        Ok(())
    }
    /// Where it connects to as it is written, `HOST` or `HOST:PORT`; none where that is not written.
    fn authority(_params: &Self::Params) -> Option<&str> {
        None
    }
    /// Asks once, for as long as it takes: the caller has the timeout.
    fn ask(_params: &Self::Params, _rule: &AddressRule) -> impl Future<Output = Told> + Send {
        async {
            let why = format!("a {} probe is asked by hosts, and this is none", Self::KIND);
            (Answer::Missing(why), None)
        }
    }
}

/// A kind in its own words.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub kind: &'static str,
    pub summary: &'static str,
    pub shorthand: &'static str,
    pub asked_by: AskedBy,
    /// JSON Schema of the parameters, `within` among them.
    pub params: Value,
    /// What each shows, and its parameters.
    pub examples: Vec<(&'static str, Map<String, Value>)>,
}

impl Description {
    /// Whether a text alone can be the whole probe.
    pub fn takes_text(&self) -> bool {
        let required = self.params.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.len() == 1 && names[0] == self.shorthand)
    }
}

pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Told> + Send + 'a>>;

/// Any kind, with its parameters as JSON.
pub trait AnyProbe: Send + Sync {
    fn kind(&self) -> &'static str;
    fn timeout(&self) -> Timeout;
    fn describe(&self) -> Description;
    /// Parses strictly and validates; the answer is the canonical form of the parameters.
    fn check(&self, params: &Map<String, Value>) -> Result<Map<String, Value>, Problems>;
    /// Where a probe of these parameters connects to, as it is written.
    fn authority(&self, params: &Map<String, Value>) -> Option<String>;
    fn ask<'a>(&self, params: &'a Map<String, Value>, rule: &'a AddressRule) -> Asking<'a>;
}

/// The one implementation of `AnyProbe`: a kind's own type, spoken to in JSON.
pub struct Kind<P>(PhantomData<fn() -> P>);

impl<P> Kind<P> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P> Default for Kind<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// A kind's parameters as they were stored: those of the type, without what every kind has.
pub fn read_params<P: Probe>(params: &Map<String, Value>) -> Result<P::Params, Problems> {
    let own = params.iter().filter(|(key, _)| key.as_str() != WITHIN);
    let own: Map<String, Value> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(own)).map_err(|error| Problems::one(Problem::new("params", error.to_string())))
}

fn schema_of<P: Probe>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.clone().into_generator().into_root_schema_for::<P::Params>().to_value();
    let mut within = settings.into_generator().into_root_schema_for::<Millis>().to_value();
    if let Some(within) = within.as_object_mut() {
        within.retain(|key, _| matches!(key.as_str(), "type" | "format" | "pattern"));
        within.insert("description".to_owned(), "The slowest answer that is good.".into());
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(WITHIN.to_owned(), within);
    }
    schema
}

/// The canonical form; what is not given is left out.
fn write_params<P: Probe>(params: &P::Params) -> Result<Map<String, Value>, Problems> {
    match serde_json::to_value(params) {
        Ok(Value::Object(written)) => Ok(written.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        Ok(other) => Err(Problems::one(Problem::new("params", format!("{other} is no set of parameters")))),
        Err(error) => Err(Problems::one(Problem::new("params", error.to_string()))),
    }
}

impl<P: Probe> AnyProbe for Kind<P> {
    fn kind(&self) -> &'static str {
        P::KIND
    }

    fn timeout(&self) -> Timeout {
        P::TIMEOUT
    }

    fn describe(&self) -> Description {
        let examples = P::examples().into_iter();
        Description {
            kind: P::KIND,
            summary: P::SUMMARY,
            shorthand: P::SHORTHAND,
            asked_by: P::ASKED_BY,
            params: schema_of::<P>(),
            examples: examples
                .map(|example| (example.says, write_params::<P>(&example.params).unwrap_or_default()))
                .collect(),
        }
    }

    fn check(&self, params: &Map<String, Value>) -> Result<Map<String, Value>, Problems> {
        let typed = schema::check(&schema_of::<P>(), params)?;
        let parsed = read_params::<P>(&typed)?;
        P::validate(&parsed)?;
        let mut written = write_params::<P>(&parsed)?;
        if let Some(within) = typed.get(WITHIN) {
            written.insert(WITHIN.to_owned(), within.clone());
        }
        Ok(written)
    }

    fn authority(&self, params: &Map<String, Value>) -> Option<String> {
        let parsed = read_params::<P>(params).ok()?;
        P::authority(&parsed).map(str::to_owned)
    }

    fn ask<'a>(&self, params: &'a Map<String, Value>, rule: &'a AddressRule) -> Asking<'a> {
        Box::pin(async move {
            match read_params::<P>(params) {
                Ok(parsed) => P::ask(&parsed, rule).await,
                Err(problems) => (Answer::Missing(problems.to_string()), None),
            }
        })
    }
}
