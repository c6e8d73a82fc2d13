//! The registry: dealers, terminals, varieties, relaying managers and keys in one versioned value, mastered at the hub and
//! replicated to every seller.
//!
//! A registry cannot be built in a wrong state: codes and (product, face value) pairs are unique, every text fits its
//! field and charset, every terminal has its dealer. A node keeps its copy as one sealed file ([`sealed`]).

mod delta;
pub mod sealed;

pub use delta::{Delta, DeltaError};

use delta::Digest;

use crate::ids::{IdMap, KeyEpoch, SellerId, TerminalId, VarietyId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use wire::message::{Charset, NAME_BYTES_MAX, RECEIPT_BYTES_MAX};
use zeroize::Zeroizing;

/// Everything a seller must know to sell, except stock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Contents", try_from = "Contents")]
pub struct Registry {
    version: u64,
    varieties: BTreeMap<VarietyId, Variety>,
    dealers: BTreeMap<u32, Dealer>,
    /// Sorted by id: a million of them must stay cheap to copy.
    terminals: Vec<Terminal>,
    managers: BTreeMap<SellerId, Manager>,
    by_face: IdMap<(u32, u64), VarietyId>,
    /// See [`Registry::digest`].
    digest: u64,
}

impl Registry {
    /// Puts a registry together.
    ///
    /// # Errors
    /// [`RegistryError`] for anything that contradicts the rules in the module's description.
    pub fn new(
        version: u64,
        varieties: Vec<Variety>,
        dealers: Vec<Dealer>,
        mut terminals: Vec<Terminal>,
    ) -> Result<Self, RegistryError> {
        let mut registry = Self { version, ..Self::default() };
        for variety in varieties {
            registry.add_variety(variety)?;
        }
        for dealer in dealers {
            registry.add_dealer(dealer)?;
        }
        terminals.sort_by_key(|terminal| terminal.id);
        for terminal in terminals {
            registry.add_terminal(terminal)?;
        }
        Ok(registry)
    }

    /// Grows by one with every change at the hub.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Names the state after a change.
    pub fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// All varieties, by id.
    pub fn varieties(&self) -> impl ExactSizeIterator<Item = &Variety> {
        self.varieties.values()
    }

    /// All dealers, by id.
    pub fn dealers(&self) -> impl ExactSizeIterator<Item = &Dealer> {
        self.dealers.values()
    }

    /// All terminals, by id.
    #[must_use]
    pub fn terminals(&self) -> &[Terminal] {
        &self.terminals
    }

    /// All host connection managers that relay, by number.
    pub fn managers(&self) -> impl ExactSizeIterator<Item = &Manager> {
        self.managers.values()
    }

    /// The host connection manager with this number.
    #[must_use]
    pub fn manager(&self, id: SellerId) -> Option<&Manager> {
        self.managers.get(&id)
    }

    /// The variety with this id.
    #[must_use]
    pub fn variety(&self, id: VarietyId) -> Option<&Variety> {
        self.varieties.get(&id)
    }

    /// The variety of this product with this face value in minor units.
    #[must_use]
    pub fn variety_by_face(&self, product: u32, face_value: u64) -> Option<VarietyId> {
        self.by_face.get(&(product, face_value)).copied()
    }

    /// The variety with this code, such as `airtime-za-10`.
    #[must_use]
    pub fn variety_by_code(&self, code: &str) -> Option<&Variety> {
        self.varieties.values().find(|variety| variety.code == code)
    }

    /// The dealer with this id.
    #[must_use]
    pub fn dealer(&self, id: u32) -> Option<&Dealer> {
        self.dealers.get(&id)
    }

    /// The terminal with this id.
    #[must_use]
    pub fn terminal(&self, id: TerminalId) -> Option<&Terminal> {
        let at = self.terminals.binary_search_by_key(&id, |terminal| terminal.id).ok()?;
        Some(&self.terminals[at])
    }

    /// Adds a variety.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn add_variety(&mut self, variety: Variety) -> Result<(), RegistryError> {
        variety.validate()?;
        let face = (variety.product, variety.face_value);
        if self.varieties.contains_key(&variety.id) {
            return Err(RegistryError::VarietyExists(variety.id));
        }
        if self.variety_by_code(&variety.code).is_some() {
            return Err(RegistryError::CodeTaken(variety.code));
        }
        if let Some(other) = self.by_face.get(&face) {
            return Err(RegistryError::FaceTaken { product: face.0, face_value: face.1, by: *other });
        }
        self.digest = self.digest.wrapping_add(variety.digest());
        self.by_face.insert(face, variety.id);
        self.varieties.insert(variety.id, variety);
        Ok(())
    }

    /// Adds a dealer.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn add_dealer(&mut self, dealer: Dealer) -> Result<(), RegistryError> {
        if dealer.name.is_empty() || dealer.name.len() > DEALER_NAME_BYTES_MAX {
            return Err(RegistryError::DealerName { bytes_max: DEALER_NAME_BYTES_MAX });
        }
        if self.dealers.contains_key(&dealer.id) {
            return Err(RegistryError::DealerExists(dealer.id));
        }
        self.digest = self.digest.wrapping_add(dealer.digest());
        self.dealers.insert(dealer.id, dealer);
        Ok(())
    }

    /// Adds a terminal.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn add_terminal(&mut self, terminal: Terminal) -> Result<(), RegistryError> {
        self.check_terminal(&terminal)?;
        match self.terminals.binary_search_by_key(&terminal.id, |known| known.id) {
            Ok(_) => Err(RegistryError::TerminalExists(terminal.id)),
            Err(at) => {
                self.digest = self.digest.wrapping_add(terminal.digest());
                self.terminals.insert(at, terminal);
                Ok(())
            }
        }
    }

    /// Puts a variety in the place of the one with its id, or adds it.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn put_variety(&mut self, variety: Variety) -> Result<(), RegistryError> {
        let Some(old) = self.varieties.remove(&variety.id) else { return self.add_variety(variety) };
        self.by_face.remove(&(old.product, old.face_value));
        self.digest = self.digest.wrapping_sub(old.digest());
        self.add_variety(variety).inspect_err(|_| {
            // It was there before, so it can be there again.
            let _ = self.add_variety(old);
        })
    }

    /// Puts a dealer in the place of the one with its id, or adds it.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn put_dealer(&mut self, dealer: Dealer) -> Result<(), RegistryError> {
        let Some(old) = self.dealers.remove(&dealer.id) else { return self.add_dealer(dealer) };
        self.digest = self.digest.wrapping_sub(old.digest());
        self.add_dealer(dealer).inspect_err(|_| {
            let _ = self.add_dealer(old);
        })
    }

    /// Puts a manager in the place of the one with its number, or adds it.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing changed then.
    pub fn put_manager(&mut self, manager: Manager) -> Result<(), RegistryError> {
        if manager.name.is_empty() || manager.name.len() > MANAGER_NAME_BYTES_MAX {
            return Err(RegistryError::ManagerName { bytes_max: MANAGER_NAME_BYTES_MAX });
        }
        self.digest = self.digest.wrapping_add(manager.digest());
        if let Some(old) = self.managers.insert(manager.id, manager) {
            self.digest = self.digest.wrapping_sub(old.digest());
        }
        Ok(())
    }

    /// Puts each terminal in the place of the one with its id, or adds it.
    ///
    /// # Errors
    /// [`RegistryError`]; those before the wrong one are in their place then.
    pub fn put_terminals(&mut self, terminals: &[Terminal]) -> Result<(), RegistryError> {
        // New ones in the middle are put there at once: each alone would move all that follow.
        let mut fresh = BTreeMap::new();
        let mut outcome = Ok(());
        for terminal in terminals {
            outcome = self.check_terminal(terminal);
            if outcome.is_err() {
                break;
            }
            match self.terminals.binary_search_by_key(&terminal.id, |known| known.id) {
                Ok(at) => {
                    let old = std::mem::replace(&mut self.terminals[at], terminal.clone());
                    self.digest = self.digest.wrapping_sub(old.digest()).wrapping_add(terminal.digest());
                }
                Err(_) => _ = fresh.insert(terminal.id, terminal.clone()),
            }
        }
        let is_behind = |first: &TerminalId| self.terminals.last().is_none_or(|last| last.id < *first);
        let are_behind = fresh.first_key_value().is_none_or(|(first, _)| is_behind(first));
        for terminal in fresh.into_values() {
            self.digest = self.digest.wrapping_add(terminal.digest());
            self.terminals.push(terminal);
        }
        if !are_behind {
            self.terminals.sort_by_key(|terminal| terminal.id);
        }
        outcome
    }

    fn check_terminal(&self, terminal: &Terminal) -> Result<(), RegistryError> {
        if terminal.id.0 == 0 {
            return Err(RegistryError::TerminalZero);
        }
        if !self.dealers.contains_key(&terminal.dealer) {
            return Err(RegistryError::NoSuchDealer(terminal.dealer));
        }
        Ok(())
    }
}

/// A product in one denomination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variety {
    /// Its number.
    #[serde(with = "VarietyNumber")]
    pub id: VarietyId,
    /// What operators call it: 1 to 40 of `a-z`, `0-9` and `-`.
    pub code: String,
    /// The product code a terminal asks for.
    pub product: u32,
    /// The denomination, in minor units of the currency.
    pub face_value: u64,
    /// ISO 4217 code in upper-case ASCII.
    pub currency: [u8; 3],
    /// Digits after the decimal point of the currency's major unit; at most 4.
    pub currency_digits: u8,
    /// How `name` and `receipt` are encoded.
    #[serde(with = "CharsetName")]
    pub charset: Charset,
    /// What a terminal shows: 1 to 40 bytes.
    pub name: Vec<u8>,
    /// What a terminal prints: at most 160 bytes, lines separated by LF.
    pub receipt: Vec<u8>,
    /// A PIN is sold only if it stays valid at least this many days.
    pub minimum_life_days: u32,
}

impl Variety {
    /// Airtime in South African rand, without a receipt and sold to its last day: what examples and tests need.
    #[must_use]
    pub fn airtime(id: VarietyId, code: &str, product: u32, face_value: u64) -> Self {
        Self {
            id,
            code: code.to_owned(),
            product,
            face_value,
            currency: *b"ZAR",
            currency_digits: 2,
            charset: Charset::Ascii,
            name: b"Airtime".to_vec(),
            receipt: Vec::new(),
            minimum_life_days: 0,
        }
    }

    fn validate(&self) -> Result<(), RegistryError> {
        let code_fits = (1..=CODE_BYTES_MAX).contains(&self.code.len())
            && self.code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !code_fits {
            return Err(RegistryError::Code(self.code.clone()));
        }
        if !self.currency.iter().all(u8::is_ascii_uppercase) || self.currency_digits > CURRENCY_DIGITS_MAX {
            return Err(RegistryError::Currency { code: self.code.clone() });
        }
        let fits = |field, text: &[u8], bytes_max: usize, lines| {
            if text.len() <= bytes_max && is_text(text, self.charset, lines) {
                return Ok(());
            }
            Err(RegistryError::Text { code: self.code.clone(), field, charset: self.charset, bytes_max })
        };
        if self.name.is_empty() {
            return Err(RegistryError::NoName { code: self.code.clone() });
        }
        fits("name", &self.name, NAME_BYTES_MAX, false)?;
        fits("receipt", &self.receipt, RECEIPT_BYTES_MAX, true)
    }
}

/// Someone who sells PINs over terminals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealer {
    /// Its number.
    pub id: u32,
    /// 1 to 80 bytes of UTF-8.
    pub name: String,
    /// Whether its terminals may sell.
    pub state: State,
}

/// A till's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its number, not 0.
    #[serde(with = "TerminalNumber")]
    pub id: TerminalId,
    /// The one dealer it belongs to.
    pub dealer: u32,
    /// Counts its keys, from 1.
    #[serde(with = "KeyEpochNumber")]
    pub key_epoch: KeyEpoch,
    /// The key of that epoch.
    pub key: TerminalKey,
    /// Whether it may sell.
    pub state: State,
}

/// A host connection manager that relays: every server may carry its terminals' sessions. It holds no stock and no journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Its number, of those of sellers.
    #[serde(with = "SellerNumber")]
    pub id: SellerId,
    /// What operators call it: 1 to 40 bytes of UTF-8.
    pub name: String,
    /// Its node key.
    pub key: TerminalKey,
    /// Whether servers let it in.
    pub state: State,
}

/// The secret that a terminal and its sellers share; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct TerminalKey(Zeroizing<[u8; 32]>);

impl TerminalKey {
    /// Takes the key's bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key's bytes, for the handshake or for sealing; nothing else may see them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TerminalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TerminalKey")
    }
}

/// Whether a dealer or a terminal may sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    /// It may.
    Active = 0,
    /// Not now.
    Suspended = 1,
    /// Never again.
    Closed = 2,
}

impl State {
    /// The state with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Closed].get(usize::from(byte)).copied()
    }
}

/// What is wrong with a registry or a change to it; the operator's to put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not a code.
    #[error("{0:?} is no variety code: use 1 to {CODE_BYTES_MAX} of a-z, 0-9 and -")]
    Code(String),
    /// The code names another variety.
    #[error("variety {0:?} exists already")]
    CodeTaken(String),
    /// The id names another variety.
    #[error("variety number {} exists already", .0.0)]
    VarietyExists(VarietyId),
    /// Terminals could not tell two varieties apart.
    #[error("product {product} with face value {face_value} is variety number {} already", .by.0)]
    FaceTaken {
        /// The product code.
        product: u32,
        /// In minor units.
        face_value: u64,
        /// The variety that has them.
        by: VarietyId,
    },
    /// Not a currency.
    #[error("variety {code}: a currency is three capital letters and at most {CURRENCY_DIGITS_MAX} digits")]
    Currency {
        /// The variety.
        code: String,
    },
    /// A variety without a name.
    #[error("variety {code} has no name")]
    NoName {
        /// The variety.
        code: String,
    },
    /// A text that terminals could not show.
    #[error("variety {code}: its {field} is no {charset:?} text of at most {bytes_max} bytes")]
    Text {
        /// The variety.
        code: String,
        /// Which text.
        field: &'static str,
        /// Its charset.
        charset: Charset,
        /// Its limit.
        bytes_max: usize,
    },
    /// A dealer's name is missing or too long.
    #[error("a dealer's name has 1 to {bytes_max} bytes")]
    DealerName {
        /// The limit.
        bytes_max: usize,
    },
    /// A manager's name is missing or too long.
    #[error("a manager's name has 1 to {bytes_max} bytes")]
    ManagerName {
        /// The limit.
        bytes_max: usize,
    },
    /// The id names another dealer.
    #[error("dealer {0} exists already")]
    DealerExists(u32),
    /// There is no such dealer.
    #[error("there is no dealer {0}")]
    NoSuchDealer(u32),
    /// 0 is not a terminal's number.
    #[error("a terminal's number is not 0")]
    TerminalZero,
    /// The id names another terminal.
    #[error("terminal {} exists already", .0.0)]
    TerminalExists(TerminalId),
    /// There is no such terminal.
    #[error("there is no terminal {}", .0.0)]
    NoSuchTerminal(TerminalId),
}

/// Whether bytes are printable in a charset; `lines`: LF is allowed.
fn is_text(text: &[u8], charset: Charset, lines: bool) -> bool {
    let controls_fit = text.iter().all(|&b| (b >= 0x20 && b != 0x7f) || (lines && b == b'\n'));
    controls_fit
        && match charset {
            Charset::Ascii => text.is_ascii(),
            Charset::Utf8 => {
                std::str::from_utf8(text).is_ok_and(|s| s.chars().all(|c| c == '\n' || !c.is_control()))
            }
            Charset::Latin1 => text.iter().all(|b| !(0x80..0xa0).contains(b)),
            Charset::Cp1256 => true,
        }
}

/// What is stored: the indexes are made again when it is read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    varieties: Vec<Variety>,
    dealers: Vec<Dealer>,
    terminals: Vec<Terminal>,
    /// Stored registries from before there were any have none.
    #[serde(default)]
    managers: Vec<Manager>,
}

impl From<Registry> for Contents {
    fn from(registry: Registry) -> Self {
        Self {
            version: registry.version,
            varieties: registry.varieties.into_values().collect(),
            dealers: registry.dealers.into_values().collect(),
            terminals: registry.terminals,
            managers: registry.managers.into_values().collect(),
        }
    }
}

impl TryFrom<Contents> for Registry {
    type Error = RegistryError;

    fn try_from(contents: Contents) -> Result<Self, RegistryError> {
        let Contents { version, varieties, dealers, terminals, managers } = contents;
        let mut registry = Self::new(version, varieties, dealers, terminals)?;
        managers.into_iter().try_for_each(|manager| registry.put_manager(manager))?;
        Ok(registry)
    }
}

impl Serialize for TerminalKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new([0; 64]);
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.iter()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        serializer.serialize_str(std::str::from_utf8(&text[..]).expect("hexadecimal digits are UTF-8"))
    }
}

impl<'de> Deserialize<'de> for TerminalKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let digit = |b: u8| HEX.iter().position(|&known| known == b);
        let mut key = Zeroizing::new([0u8; 32]);
        let wrong = || serde::de::Error::custom("a key is 64 lower-case hexadecimal digits");
        if text.len() != 64 {
            return Err(wrong());
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(wrong()) };
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(key))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VarietyId")]
struct VarietyNumber(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "SellerId")]
struct SellerNumber(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "TerminalId")]
struct TerminalNumber(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeyEpoch")]
struct KeyEpochNumber(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Charset", rename_all = "lowercase")]
enum CharsetName {
    Ascii,
    Utf8,
    Latin1,
    Cp1256,
}

/// Longest code of a variety, in bytes.
pub const CODE_BYTES_MAX: usize = 40;
/// Longest name of a dealer, in bytes.
pub const DEALER_NAME_BYTES_MAX: usize = 80;
/// Longest name of a manager, in bytes.
pub const MANAGER_NAME_BYTES_MAX: usize = 40;
/// Most digits after the decimal point.
pub const CURRENCY_DIGITS_MAX: u8 = 4;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// An amount in minor units as people write it: `10.00 ZAR`.
#[must_use]
pub fn price(minor: u64, digits: u8, currency: &str) -> String {
    let unit = 10u64.pow(u32::from(digits.min(4)));
    if digits == 0 {
        return format!("{minor} {currency}");
    }
    format!("{}.{:0width$} {currency}", minor / unit, minor % unit, width = usize::from(digits))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_in_its_major_unit() {
        assert_eq!(price(1000, 2, "ZAR"), "10.00 ZAR");
        assert_eq!(price(5, 2, "EUR"), "0.05 EUR");
        assert_eq!(price(500, 0, "JPY"), "500 JPY");
    }

    pub(crate) fn variety(id: u32) -> Variety {
        Variety {
            id: VarietyId(id),
            code: format!("airtime-za-{id}"),
            product: 1,
            face_value: u64::from(id) * 100,
            currency: *b"ZAR",
            currency_digits: 2,
            charset: Charset::Ascii,
            name: b"Airtime".to_vec(),
            receipt: b"Dial *100*PIN#\nThank you".to_vec(),
            minimum_life_days: 7,
        }
    }

    pub(crate) fn terminal(id: u64) -> Terminal {
        Terminal {
            id: TerminalId(id),
            dealer: 1,
            key_epoch: KeyEpoch(1),
            key: TerminalKey::new([7; 32]),
            state: State::Active,
        }
    }

    pub(crate) fn sample() -> Registry {
        let dealer = Dealer { id: 1, name: "Corner shop".into(), state: State::Active };
        let terminals = vec![terminal(9), terminal(3)];
        Registry::new(4, vec![variety(10), variety(20)], vec![dealer], terminals).unwrap()
    }

    #[test]
    fn what_a_terminal_asks_for_resolves_to_one_variety() {
        let registry = sample();
        assert_eq!(registry.variety_by_face(1, 2000), Some(VarietyId(20)));
        assert_eq!(registry.variety_by_face(2, 2000), None);
        assert_eq!(registry.variety_by_code("airtime-za-10").unwrap().id, VarietyId(10));
        assert_eq!(registry.terminal(TerminalId(3)).unwrap().dealer, 1);
        assert!(registry.terminal(TerminalId(4)).is_none());
    }

    #[test]
    fn contradictions_are_refused() {
        let mut registry = sample();
        let before = registry.clone();
        let mut same_code = variety(30);
        same_code.code = "airtime-za-10".into();
        assert!(matches!(registry.add_variety(same_code), Err(RegistryError::CodeTaken(_))));
        let mut same_face = variety(30);
        same_face.face_value = 1000;
        assert!(matches!(registry.add_variety(same_face), Err(RegistryError::FaceTaken { .. })));
        assert!(matches!(registry.add_variety(variety(10)), Err(RegistryError::VarietyExists(_))));
        let mut orphan = terminal(5);
        orphan.dealer = 2;
        assert_eq!(registry.add_terminal(orphan), Err(RegistryError::NoSuchDealer(2)));
        assert_eq!(registry.add_terminal(terminal(3)), Err(RegistryError::TerminalExists(TerminalId(3))));
        assert_eq!(registry.add_terminal(terminal(0)), Err(RegistryError::TerminalZero));
        assert_eq!(registry, before);
    }

    #[test]
    fn texts_must_fit_their_charset_and_length() {
        let text = |charset, name: &[u8], receipt: &[u8]| {
            let mut v = variety(30);
            (v.charset, v.name, v.receipt) = (charset, name.to_vec(), receipt.to_vec());
            sample().add_variety(v)
        };
        assert_eq!(text(Charset::Utf8, "Café".as_bytes(), b""), Ok(()));
        assert_eq!(text(Charset::Latin1, b"Caf\xe9", b"a\nb"), Ok(()));
        assert_eq!(text(Charset::Cp1256, b"\xd1\xd5\xed\xcf", b""), Ok(()));
        assert!(text(Charset::Ascii, "Café".as_bytes(), b"").is_err());
        assert!(text(Charset::Utf8, b"Caf\xe9", b"").is_err());
        assert!(text(Charset::Latin1, b"\x85", b"").is_err());
        assert!(text(Charset::Ascii, b"", b"").is_err(), "no name");
        assert!(text(Charset::Ascii, b"two\nlines", b"").is_err(), "a name is one line");
        assert!(text(Charset::Ascii, b"a", b"escape \x1b").is_err());
        assert!(text(Charset::Ascii, &[b'a'; 41], b"").is_err());
        assert!(text(Charset::Ascii, b"a", &[b'a'; 161]).is_err());
    }
}
