//! The catalogue of the fleet: every kind some host offers, with how many hosts do.

use std::collections::BTreeMap;

use proto_model::catalogue::{FaultKind, KindDescription};
use proto_model::id::HostName;
use proto_wire::v1::faults_server::Faults;
use proto_wire::v1::{Documents, FaultsListRequest};
use serde::Serialize;
use tonic::{Request, Response, Status, async_trait};

use crate::service::{Api, document};

/// The JSON document `Fault`.
#[derive(Serialize)]
struct FaultDocument {
    /// The kind of fault; `kind` is what sort of document this is.
    fault: FaultKind,
    #[serde(flatten)]
    description: serde_json::Map<String, serde_json::Value>,
    /// Enrolled hosts that offer it.
    hosts: u32,
}

impl FaultDocument {
    fn of(description: &KindDescription) -> Self {
        let mut map = match serde_json::to_value(description) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        };
        map.remove("kind");
        Self {
            fault: description.kind.clone(),
            description: map,
            hosts: 0,
        }
    }
}

#[async_trait]
impl Faults for Api {
    async fn list(&self, _request: Request<FaultsListRequest>) -> Result<Response<Documents>, Status> {
        let mut kinds: BTreeMap<FaultKind, FaultDocument> = BTreeMap::new();
        // Thousands of hosts have a handful of catalogues.
        let mut offered: BTreeMap<String, (HostName, u32)> = BTreeMap::new();
        for host in self.0.voice.hosts() {
            offered
                .entry(host.catalogue_digest.clone())
                .or_insert_with(|| (host.name.clone(), 0))
                .1 += 1;
        }
        for (host, hosts) in offered.values() {
            let Some(catalogue) = self.0.voice.catalogue(host) else { continue };
            for description in &catalogue.0 {
                let entry = kinds
                    .entry(description.kind.clone())
                    .or_insert_with(|| FaultDocument::of(description));
                entry.hosts += hosts;
            }
        }
        let items = kinds.values().map(|fault| document("Fault", fault)).collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }
}
