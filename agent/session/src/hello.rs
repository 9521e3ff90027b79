//! What the agent says of itself when a session begins.

use agent_warden::{AgentStatus, Command, InventoryItem, WardenError, WardenHandle};
use proto_model::id::InstanceId;
use proto_wire::v1;
use proto_wire::v1::Hello;

use crate::epochs::Epochs;
use crate::errand::{answer, ask};
use crate::run::SessionOptions;

pub(crate) async fn status(warden: &WardenHandle) -> Result<AgentStatus, WardenError> {
    answer(ask(warden, Command::Status)?).await
}

pub(crate) async fn inventory(warden: &WardenHandle) -> Result<Vec<InventoryItem>, WardenError> {
    answer(ask(warden, Command::Inventory)?).await
}

pub(crate) fn hello(
    options: &SessionOptions,
    instance: &InstanceId,
    nonce: &str,
    status: &AgentStatus,
    seen: Epochs,
    owed: Vec<InventoryItem>,
) -> Hello {
    let (facts, catalogue) = ((options.facts)(), (options.catalogue)());
    Hello {
        nonce: nonce.to_owned(),
        agent_version: options.agent_version.clone(),
        instance: instance.to_string(),
        boot_id: status.boot_id.clone(),
        boot_ms: status.boot_ms,
        facts_json: serde_json::to_string(&facts).unwrap_or_default(),
        catalogue_json: serde_json::to_string(&catalogue).unwrap_or_default(),
        catalogue_digest: catalogue.digest(),
        halt_epoch: seen.halt,
        halted: status.halted.is_some(),
        halt_reason: status.halted.as_ref().map(|h| h.reason.clone()).unwrap_or_default(),
        store_epoch: seen.store,
        inventory: owed.into_iter().map(item).collect(),
        cleanliness: status.cleanliness.as_str().to_owned(),
    }
}

fn item(owed: InventoryItem) -> v1::InventoryItem {
    v1::InventoryItem {
        injection: owed.injection.to_string(),
        run: owed.run,
        state: owed.state.as_str().to_owned(),
        finished: owed.finished,
    }
}
