//! Every service of the operators at its route, with the pages beside them, and what stands before all.

use std::sync::Arc;

use proto_wire::v1::audit_server::AuditServer;
use proto_wire::v1::authority_server::AuthorityServer;
use proto_wire::v1::emergency_server::EmergencyServer;
use proto_wire::v1::evidence_server::EvidenceServer;
use proto_wire::v1::experiments_server::ExperimentsServer;
use proto_wire::v1::faults_server::FaultsServer;
use proto_wire::v1::freezes_server::FreezesServer;
use proto_wire::v1::hosts_server::HostsServer;
use proto_wire::v1::operators_server::OperatorsServer;
use proto_wire::v1::runs_server::RunsServer;
use proto_wire::v1::schedules_server::SchedulesServer;
use proto_wire::v1::tokens_server::TokensServer;
use tonic::service::Routes;

use crate::door::DoorLayer;
use crate::service::Api;

impl Api {
    /// Every operators' service; the caller adds `layer()`.
    pub fn routes(&self) -> Routes {
        Routes::new(ExperimentsServer::new(self.clone()))
            .add_service(RunsServer::new(self.clone()))
            .add_service(HostsServer::new(self.clone()))
            .add_service(FaultsServer::new(self.clone()))
            .add_service(TokensServer::new(self.clone()))
            .add_service(SchedulesServer::new(self.clone()))
            .add_service(FreezesServer::new(self.clone()))
            .add_service(EvidenceServer::new(self.clone()))
            .add_service(OperatorsServer::new(self.clone()))
            .add_service(AuthorityServer::new(self.clone()))
            .add_service(AuditServer::new(self.clone()))
            .add_service(EmergencyServer::new(self.clone()))
    }

    /// The same with the dashboard's pages beside them; over TLS only.
    pub fn routes_and_pages(&self) -> Routes {
        Routes::from(self.routes().into_axum_router().merge(crate::http::pages(self)))
    }

    /// What stands before every service.
    pub fn layer(&self) -> DoorLayer {
        DoorLayer(Arc::new(self.door()))
    }
}
