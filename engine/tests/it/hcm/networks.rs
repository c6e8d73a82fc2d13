//! Terminals on one network, the server on another, and a relay between them.

use crate::support::netns::Namespaces;
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::{PINWHEEL, Process};
use crate::support::{lacking, scratch};
use engine::admin::KeyRow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Hub and server in `core`, the relay in `relay`, terminals in `tills`.
struct Town {
    spaces: Namespaces,
    hub: Process,
    server: Process,
    relay: Process,
    keys: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Town {
    fn new(spaces: Namespaces, relay_at: &str, listen: &str, source: &str) -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let at = |namespace| spaces.command(namespace, PINWHEEL);
        let hub = site.hub_by(at("core"));
        furnish(&hub, 1);
        let keys = scratch.path().join("keys.csv");
        fs::write(&keys, csv(&hub.add_terminals(1))).unwrap();
        hub.mint("v1", 100);
        site.admit(&hub, "server");
        site.admit_relay(&hub, "kiosks");
        let settings = Settings { links: "10.71.0.1:7701".parse().unwrap(), ..Settings::default() };
        let server = site.server_by(at("core"), "server", hub.address, &settings).unwrap();
        server.wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable == 100));
        let relay = site.relay_by(at(relay_at), "kiosks", listen, &[settings.links], source);
        relay.wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
        Self { spaces, hub, server, relay, keys, _scratch: scratch }
    }

    /// Buys one PIN from somewhere.
    fn buy(&self, namespace: &str, till: &Path) -> Output {
        let mut command = self.spaces.command(namespace, PINWHEEL);
        command.args(["--json", "--data"]).arg(till).args(["buy", "--product", "1", "--face-value", "1000"]);
        command.args(["--connect", &self.relay.address.to_string(), "--patience", "10", "--keys"]);
        command.arg(&self.keys).output().unwrap()
    }

    fn sells_to(&self, namespace: &str) {
        let till = tempfile::tempdir().unwrap();
        let bought = self.buy(namespace, till.path());
        assert!(bought.status.success(), "{bought:?}");
        self.hub.wait_for("one sale", |status| status.varieties[0].sold == 1);
        assert_eq!(self.server.status().sellers[0].answered_sold, 1);
        self.hub.audit();
    }
}

fn csv(keys: &[KeyRow]) -> String {
    let hex = |key: &KeyRow| key.key.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let row = |key: &KeyRow| format!("{},{},{},{}\n", key.terminal, key.dealer, key.key_epoch, hex(key));
    ["terminal,dealer,key_epoch,key\n".to_owned()].into_iter().chain(keys.iter().map(row)).collect()
}

#[test]
fn m08_terminals_on_one_network_and_the_server_on_another_with_no_route_between() {
    let Some(spaces) = Namespaces::new(&["core", "relay", "tills"]) else {
        return lacking("network namespaces (root, `ip netns`)");
    };
    if !spaces.wire([("core", "10.71.0.1/24"), ("relay", "10.71.0.2/24")])
        || !spaces.wire([("relay", "10.72.0.1/24"), ("tills", "10.72.0.2/24")])
    {
        return lacking("virtual Ethernet devices between network namespaces");
    }
    // Each side is bound to its own device and address.
    let sides = "listen_device = \"to-tills\"\nserver_device = \"to-core\"\nserver_source = \"10.71.0.2\"";
    let town = Town::new(spaces, "relay", "10.72.0.1:7651", sides);
    assert!(!town.spaces.has_route("tills", "10.71.0.1"), "no way from the terminals to the server");
    assert!(!town.spaces.has_route("core", "10.72.0.2"), "nor back");
    assert!(town.spaces.has_route("tills", "10.72.0.1"));
    town.sells_to("tills");
    // From the server's side nobody reaches the terminals' port.
    let till = tempfile::tempdir().unwrap();
    assert!(!town.buy("core", till.path()).status.success());
}

#[test]
fn m08_terminals_relay_and_server_on_one_network() {
    let Some(spaces) = Namespaces::new(&["core", "tills"]) else {
        return lacking("network namespaces (root, `ip netns`)");
    };
    if !spaces.wire([("core", "10.71.0.1/24"), ("tills", "10.71.0.2/24")]) {
        return lacking("virtual Ethernet devices between network namespaces");
    }
    let town = Town::new(spaces, "core", "10.71.0.1:7651", "");
    town.sells_to("tills");
}
