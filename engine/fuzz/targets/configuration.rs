//! Text as every file that an operator writes: the configurations of hub, server and both kinds of host connection manager,
//! `suppliers.toml`, a profile, a join token, and a demand trace with its scenario.

use engine::acquisition::Suppliers;
use engine::cli::Configuration;
use engine::intake::Profile;
use engine::network::JoinToken;
use engine::policy::simulate::{Scenario, Trace, simulate};
use std::path::Path;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for node in [Configuration::Hub, Configuration::Server, Configuration::Hcm] {
        if is_accepted(&node.check(text)) {
            // It stands at the top of the file, where every configuration has its own keys.
            assert!(node.check(&format!("{UNKNOWN}{text}")).is_err(), "{node:?}: an unknown key is an error");
        }
    }
    match Suppliers::from_toml(text, Path::new("/base")) {
        Ok(suppliers) => {
            assert_eq!(suppliers.supply().suppliers.len(), suppliers.suppliers.len());
            assert!(Suppliers::from_toml(&format!("{UNKNOWN}{text}"), Path::new("/base")).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if is_accepted(&Profile::from_toml(text)) {
        assert!(Profile::from_toml(&format!("{UNKNOWN}{text}")).is_err());
    }
    is_accepted(&text.parse::<JoinToken>());
    is_accepted(&Trace::parse(text));
    let trace = Trace::parse(TRACE).expect("it is in order");
    if let Ok(scenario) = Scenario::parse(text, &trace) {
        let report = simulate(&trace, &scenario);
        assert!(report.sold <= VENDS, "no more is sold than was asked for");
    }
}

/// What is refused is refused with a reason.
fn is_accepted<T, E: ToString>(read: &Result<T, E>) -> bool {
    match read {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// No file has such a key.
const UNKNOWN: &str = "unheard-of = 1\n";
/// Two nodes and two hours of a demand for so many PINs.
const TRACE: &str = "hour,node,variety,vends\n0,north,a,40\n0,south,a,7\n1,south,a,90\n";
const VENDS: u64 = 137;
