//! What no network fault may take, as it reaches the host: the controller, protected ports and networks, network mounts.

use std::path::Path;

use agent_levers::Exemptions;
use agent_warden::{Command, Policy};
use proto_model::peer::Network;
use proto_model::quantity::PortRange;
use serde_json::json;

use crate::support::Bench;

#[test]
fn the_controller_and_what_the_policy_protects_are_exempt_from_a_real_injection() {
    let policy = "[protect]\nports = [5432, \"8000-8010\"]\nnetworks = [\"198.51.100.0/24\"]\n";
    let mut bench = Bench::with_policy(Policy::parse(policy, Path::new("agent.toml")).unwrap());
    bench.host.set_network_mounts(vec!["192.0.2.9".parse().unwrap()]);
    let [first, second] = ["192.0.2.7:7443", "[2001:db8::7]:7443"].map(|text| text.parse().unwrap());
    let network = |text: &str| Network::parse(text).unwrap();
    let expected = |controllers: &[std::net::SocketAddr]| Exemptions {
        controllers: controllers.to_vec(),
        networks: vec![network("198.51.100.0/24"), network("192.0.2.9")],
        ports: vec![PortRange { first: 5432, last: 5432 }, PortRange { first: 8000, last: 8010 }],
    };
    for controllers in [&[first][..], &[first, second][..]] {
        bench.warden.command(Command::Controllers(controllers.to_vec()));
        let order = bench.order("test.gated", json!({}));
        let injection = order.injection.clone();
        bench.start(order);
        assert_eq!(bench.host.exempt(), Some(expected(controllers)));
        bench.stop(&injection);
    }
}

#[test]
fn a_controller_that_moves_is_spared_by_what_acts_already() {
    let mut bench = Bench::new();
    let controllers = ["192.0.2.7:7443", "192.0.2.8:7443"].map(|text| text.parse().unwrap());
    bench.warden.command(Command::Controllers(vec![controllers[0]]));
    let order = bench.order("test.gated", json!({}));
    bench.start(order);
    bench.warden.command(Command::Controllers(controllers.to_vec()));
    assert_eq!(bench.host.exempt().unwrap().controllers, controllers);
}
