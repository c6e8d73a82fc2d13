//! Networks of their own: network namespaces, and wires between them. Only root makes them.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Some network namespaces, removed when dropped.
pub(crate) struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    /// With these names; `None` where the machine does not allow it.
    pub(crate) fn new(names: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("pinwheel-{}-{}-", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let mut namespaces = Self { prefix, names: Vec::new() };
        for name in names {
            let full = namespaces.full(name);
            if !ip(&["netns", "add", &full]) {
                return None;
            }
            namespaces.names.push(full.clone());
            if !ip(&["-n", &full, "link", "set", "lo", "up"]) {
                return None;
            }
        }
        Some(namespaces)
    }

    /// Connects two of them by a wire; each end has an address such as `10.1.2.3/24`. False where the machine has no such wires.
    pub(crate) fn wire(&self, [(one, one_address), (other, other_address)]: [(&str, &str); 2]) -> bool {
        let (at_one, at_other) = (format!("to-{other}"), format!("to-{one}"));
        let (one, other) = (self.full(one), self.full(other));
        ip(&["-n", &one, "link", "add", &at_one, "type", "veth", "peer", "name", &at_other, "netns", &other])
            && [(&one, &at_one, one_address), (&other, &at_other, other_address)].into_iter().all(
                |(namespace, device, address)| {
                    ip(&["-n", namespace, "address", "add", address, "dev", device])
                        && ip(&["-n", namespace, "link", "set", device, "up"])
                },
            )
    }

    /// A program in one of them.
    pub(crate) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name), program]);
        command
    }

    /// Whether packets from there find a way to an address.
    pub(crate) fn has_route(&self, name: &str, to: &str) -> bool {
        ip(&["-n", &self.full(name), "route", "get", to])
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
