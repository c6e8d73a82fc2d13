//! Text as `suppliers.toml`, as a profile, as a join token.

use engine::acquisition::Suppliers;
use engine::intake::Profile;
use engine::network::JoinToken;
use std::path::Path;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Suppliers::from_toml(text, Path::new("/base")) {
        Ok(suppliers) => {
            let supply = suppliers.supply();
            assert!(supply.suppliers.len() == suppliers.suppliers.len());
        }
        Err(error) => drop(error.to_string()),
    }
    if let Err(error) = Profile::from_toml(text) {
        drop(error.to_string());
    }
    if let Err(error) = text.parse::<JoinToken>() {
        drop(error.to_string());
    }
}
