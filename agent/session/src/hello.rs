//! What the agent says of itself when a session begins.

use agent_warden::{AgentStatus, Command, InventoryItem, WardenError, WardenHandle};
use proto_model::host::HostFacts;
use proto_model::id::InstanceId;
use proto_wire::v1;
use proto_wire::v1::Hello;

use crate::epochs::Epochs;
use crate::options::SessionOptions;
use crate::warden_client::{answer, ask};

pub(crate) async fn status(warden: &WardenHandle) -> Result<AgentStatus, WardenError> {
    answer(ask(warden, Command::Status)?).await
}

pub(crate) async fn inventory(warden: &WardenHandle) -> Result<Vec<InventoryItem>, WardenError> {
    answer(ask(warden, Command::Inventory)?).await
}

/// Names the catalogue by its digest: a controller knows that of most hosts by others. What the host trusts is for the caller to add.
pub(crate) fn hello(
    options: &SessionOptions,
    instance: &InstanceId,
    nonce: &str,
    status: &AgentStatus,
    seen: Epochs,
    owed: Vec<InventoryItem>,
    facts: &HostFacts,
) -> Hello {
    Hello {
        nonce: nonce.to_owned(),
        agent_version: options.agent_version.clone(),
        instance: instance.to_string(),
        boot_id: status.boot_id.clone(),
        boot_ms: status.boot_ms,
        facts: Some(v1::HostFacts::from(facts)),
        catalogue_json: String::new(),
        catalogue_digest: (options.catalogue)().digest(),
        halt_epoch: seen.halt,
        halted: status.halted.is_some(),
        halt_reason: status.halted.as_ref().map(|h| h.reason.clone()).unwrap_or_default(),
        store_epoch: seen.store,
        inventory: owed.into_iter().map(item).collect(),
        cleanliness: v1::Cleanliness::from(status.cleanliness).into(),
        clock_ms: (options.clock)().0,
        trust: None,
    }
}

pub(crate) fn with_catalogue(hello: Hello, options: &SessionOptions) -> Hello {
    Hello {
        catalogue_json: serde_json::to_string(&(options.catalogue)()).unwrap_or_default(),
        ..hello
    }
}

fn item(owed: InventoryItem) -> v1::InventoryItem {
    v1::InventoryItem {
        injection: owed.injection.to_string(),
        run: owed.run,
        state: v1::InjectionState::from(owed.state).into(),
        finished: owed.finished,
    }
}
