//! How a seller comes to belong to a hub: the join token, and what is kept of it.

use super::Failure;
use super::hub::HubHandle;
use crate::hub::{Command, Done};
use crate::ids::SellerId;
use crate::registry::TerminalKey;
use crate::stock::NodeKeys;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use xxhash_rust::xxh32::xxh32;
use zeroize::Zeroizing;

/// What a new node is given to prove to its hub who it is: its number and its node key. A secret.
///
/// As text: `pinwheel-` , the number, `-`, the key in 64 hexadecimal digits, `-`, and the XXH32 (seed 0) of all before
/// that last hyphen in 8, so that what was cut short in copying is noticed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// The node's number.
    pub seller: SellerId,
    /// Its key.
    pub node_key: TerminalKey,
}

/// A text that is no join token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not a join token: copy it whole, from pinwheel-… on, as `pinwheel node add` printed it")]
pub struct NotAToken;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Zeroizing::new(format!("{PREFIX}{}-", self.seller.0));
        for byte in self.node_key.expose() {
            text.push_str(&format!("{byte:02x}"));
        }
        write!(f, "{}-{:08x}", *text, xxh32(text.as_bytes(), 0))
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        let (body, check) = text.rsplit_once('-').ok_or(NotAToken)?;
        if check.len() != 8 || u32::from_str_radix(check, 16) != Ok(xxh32(body.as_bytes(), 0)) {
            return Err(NotAToken);
        }
        let (number, digits) =
            body.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or(NotAToken)?;
        let seller = number.parse().map(SellerId).map_err(|_| NotAToken)?;
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(NotAToken);
        }
        let mut key = Zeroizing::new([0; 32]);
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| NotAToken)?;
        }
        Ok(Self { seller, node_key: TerminalKey::new(*key) })
    }
}

/// What a seller knows of itself once it has joined.
pub(super) struct Joined {
    pub(super) seller: SellerId,
    pub(super) node_key: TerminalKey,
}

impl Joined {
    /// The keys of its link.
    pub(super) fn keys(&self) -> NodeKeys {
        NodeKeys::from_node_key(self.node_key.expose())
    }
}

/// Joins with a token, which is needed only the first time.
///
/// A directory that belongs to another seller is never taken over.
pub(super) fn join(directory: &Path, token: Option<&JoinToken>) -> Result<Joined, Failure> {
    match (joined(directory), token) {
        (None, None) => Err(Failure::NotJoined { directory: directory.to_owned() }),
        (Some(seller), Some(token)) if seller != token.seller => {
            Err(Failure::OtherSeller { directory: directory.to_owned(), seller, token: token.seller })
        }
        (Some(seller), _) => load(directory, seller, None),
        (None, Some(token)) => load(directory, token.seller, Some(&token.node_key)),
    }
}

/// Joins the hub of the same process, under a name, making the node there if there is none of that name, below a server if one is
/// named.
pub(super) fn join_here(
    directory: &Path,
    name: &str,
    below: Option<&str>,
    hub: &HubHandle,
) -> Result<Joined, Failure> {
    if let Some(seller) = joined(directory) {
        return load(directory, seller, None);
    }
    let (wanted, above) = (name.to_owned(), below.map(str::to_owned));
    let (known, above) = hub.ask(move |hub| {
        let called = |wanted: &str| hub.nodes().find(|(_, name)| *name == wanted).map(|(node, _)| node);
        let known = called(&wanted);
        let known = known.map(|node| (node, hub.journal_acked(node).unwrap_or(0), hub.node_key(node)));
        (known, above.and_then(|server| called(&server)))
    })?;
    let (seller, node_key) = match known {
        Some((seller, archived, _)) if archived > 0 => {
            return Err(Failure::SellerLost { seller, directory: directory.to_owned() });
        }
        // The hub knows it and it never got as far as selling: an unfinished first start.
        Some((seller, _, node_key)) => (seller, node_key?),
        None => {
            let command = Command::AddNode { name: name.to_owned(), below: above };
            let (seller, node_key) = add(command, name, hub)?;
            (seller, Some(node_key))
        }
    };
    load(directory, seller, node_key.as_ref())
}

/// The number and key of a relay of the hub of the same process, by its name; made there if there is none of that name.
pub(super) fn relay_here(name: &str, hub: &HubHandle) -> Result<JoinToken, Failure> {
    let wanted = name.to_owned();
    let known = hub.ask(move |hub| {
        let manager = hub.registry().managers().find(|manager| manager.name == wanted);
        manager.map(|manager| (manager.id, manager.key.clone()))
    })?;
    let (seller, node_key) = match known {
        Some(known) => known,
        None => add(Command::AddManager { name: name.to_owned() }, name, hub)?,
    };
    Ok(JoinToken { seller, node_key })
}

fn add(command: Command, name: &str, hub: &HubHandle) -> Result<(SellerId, TerminalKey), Failure> {
    match hub.command(command)? {
        Ok(Done::Node { seller, node_key, .. }) => Ok((seller, node_key)),
        Err(why) => Err(Failure::NotAdmitted { name: name.to_owned(), why }),
        Ok(other) => unreachable!("a new node is answered by it, not {other:?}"),
    }
}

/// The seller that this directory belongs to, if it has joined a hub.
pub(super) fn joined(directory: &Path) -> Option<SellerId> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| link_number(entry.file_name().to_str()?)).next()
}

/// Reads the key file, or makes it.
fn load(directory: &Path, seller: SellerId, node_key: Option<&TerminalKey>) -> Result<Joined, Failure> {
    let path = link_path(directory, seller);
    let lost = || Failure::SellerLost { seller, directory: directory.to_owned() };
    if node_key.is_none() && !path.exists() {
        return Err(lost());
    }
    let fresh = || node_key.map_or([0; 32], |key| *key.expose());
    let kept = NodeKeys::key_from_file(&path, fresh)?;
    Ok(Joined { seller, node_key: TerminalKey::new(*kept) })
}

fn link_path(directory: &Path, seller: SellerId) -> PathBuf {
    directory.join(format!("link-{}.key", seller.0))
}

/// The seller's number in the name of its link key's file.
fn link_number(name: &str) -> Option<SellerId> {
    name.strip_prefix("link-")?.strip_suffix(".key")?.parse().ok().map(SellerId)
}

const PREFIX: &str = "pinwheel-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_no_damaged_one_does() {
        let token = JoinToken { seller: SellerId(12), node_key: TerminalKey::new([0xa7; 32]) };
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'1' { b'2' } else { b'1' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(damaged.parse::<JoinToken>(), Err(NotAToken), "{damaged}");
            assert_eq!(text[..at].parse::<JoinToken>(), Err(NotAToken));
        }
        assert_eq!("é-é-é".parse::<JoinToken>(), Err(NotAToken));
    }

    #[test]
    fn a_directory_keeps_the_seller_that_it_was_begun_for() {
        let directory = tempfile::tempdir().unwrap();
        let token =
            |seller| JoinToken { seller: SellerId(seller), node_key: TerminalKey::new([seller as u8; 32]) };
        assert!(matches!(join(directory.path(), None), Err(Failure::NotJoined { .. })));
        assert_eq!(join(directory.path(), Some(&token(3))).ok().unwrap().seller, SellerId(3));
        assert!(matches!(join(directory.path(), Some(&token(4))), Err(Failure::OtherSeller { .. })));
        let again = join(directory.path(), None).ok().unwrap();
        assert_eq!((again.seller, again.node_key.expose()), (SellerId(3), &[3; 32]));
    }
}
