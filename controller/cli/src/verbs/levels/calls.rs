//! The levels of services as the controller computes them.

use proto_model::evidence::Levels as Computed;
use proto_wire::v1::LevelsRequest;
use serde_json::Value;

use crate::client::{ASK, Client};
use crate::documents;
use crate::failure::Failure;
use crate::globals::Globals;

/// The documents of one service, or of all.
pub async fn ask(globals: &Globals, service: &str) -> Result<Vec<String>, Failure> {
    let client = Client::connect(globals).await?;
    let request = LevelsRequest {
        service: service.to_owned(),
    };
    let reply = client.call("compute the levels", ASK, client.evidence().levels(request)).await?;
    Ok(reply.items)
}

pub async fn of_one(globals: &Globals, service: &str) -> Result<(Value, Computed), Failure> {
    let items = ask(globals, service).await?;
    let item = items
        .first()
        .ok_or_else(|| Failure::local("the controller answered without the levels that were asked for"))?;
    let value = documents::value("Levels", item)?;
    let levels = documents::read("Levels", &value)?;
    Ok((value, levels))
}
