//! `suppliers.toml` as it is written.

use super::{Life, MintTerms, SpoolTerms, Supplier, SuppliersError, Way, wrong};
use crate::intake::{Alphabet, Profile, Recipe};
use crate::policy::ReorderRule;
use crate::stock::Expiry;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileText {
    #[serde(default)]
    pub(super) supplier: Vec<SupplierEntry>,
    #[serde(default)]
    pub(super) reorder: Vec<ReorderEntry>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum SupplierEntry {
    Mint {
        name: String,
        #[serde(default = "usual_length")]
        length: u8,
        #[serde(default)]
        alphabet: AlphabetName,
        #[serde(default)]
        luhn: bool,
        #[serde(default = "usual_prefix")]
        serial_prefix: String,
        expiry: Option<String>,
        valid_days: Option<u32>,
    },
    Spool {
        name: String,
        directory: PathBuf,
        profile: String,
        expiry: Option<String>,
        valid_days: Option<u32>,
        variety: Option<String>,
        #[serde(default = "yes")]
        keep_files: bool,
    },
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum AlphabetName {
    #[default]
    Digits,
    Letters,
}

/// A [`ReorderRule`], and for what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReorderEntry {
    pub(super) variety: String,
    pub(super) supplier: String,
    point: Option<u64>,
    up_to: Option<u64>,
    lead_h: Option<u32>,
    safety_h: Option<u32>,
    cycle_h: Option<u32>,
    lot: Option<u64>,
}

impl SupplierEntry {
    pub(super) fn read(self, base: &Path) -> Result<Supplier, SuppliersError> {
        match self {
            Self::Mint { name, length, alphabet, luhn, serial_prefix, expiry, valid_days } => {
                let name = check_name(name)?;
                let of = || format!("supplier {name:?}");
                let alphabet = match alphabet {
                    AlphabetName::Digits => Alphabet::Digits,
                    AlphabetName::Letters => Alphabet::Letters,
                };
                let recipe = Recipe {
                    count: 1,
                    length,
                    alphabet,
                    check: luhn,
                    serial_prefix,
                    serial_first: 1,
                    serial_digits: SERIAL_DIGITS,
                };
                if recipe.serial_prefix.len() > PREFIX_BYTES_MAX {
                    return Err(wrong(of(), "serial_prefix has at most 6 characters"));
                }
                recipe.check().map_err(|what| wrong(of(), what))?;
                let life = life(expiry, valid_days, of)?;
                Ok(Supplier { name, way: Way::Mint(MintTerms { recipe, life }) })
            }
            Self::Spool { name, directory, profile, expiry, valid_days, variety, keep_files } => {
                let name = check_name(name)?;
                let life = life(expiry, valid_days, || format!("supplier {name:?}"))?;
                let profile = read_profile(&name, &profile, base)?;
                let directory = base.join(directory);
                let terms = SpoolTerms { directory, profile, life, variety, keep_files };
                Ok(Supplier { name, way: Way::Spool(Box::new(terms)) })
            }
        }
    }
}

impl ReorderEntry {
    pub(super) fn rule(&self) -> ReorderRule {
        let usual = ReorderRule::default();
        ReorderRule {
            point: self.point,
            up_to: self.up_to,
            lead_h: self.lead_h.unwrap_or(usual.lead_h),
            safety_h: self.safety_h.unwrap_or(usual.safety_h),
            cycle_h: self.cycle_h.unwrap_or(usual.cycle_h),
            lot: self.lot.unwrap_or(usual.lot),
        }
    }
}

fn read_profile(name: &str, profile: &str, base: &Path) -> Result<Profile, SuppliersError> {
    if Path::new(profile).extension().is_some_and(|extension| extension == "toml") {
        let path = base.join(profile);
        let text = fs::read_to_string(&path).map_err(|source| SuppliersError::Unreadable { path, source })?;
        let failed = |source| SuppliersError::Profile { name: name.to_owned(), source };
        return Profile::from_toml(&text).map_err(failed);
    }
    let unknown = "its profile is neither a built-in one nor the path of a .toml file";
    Profile::built_in(profile).ok_or_else(|| wrong(format!("supplier {name:?}"), unknown))
}

/// Names go into files and messages.
fn check_name(name: String) -> Result<String, SuppliersError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        let what = "a name is 1 to 40 characters out of 0-9, A-Z, a-z, - and _";
        return Err(wrong(format!("supplier {name:?}"), what));
    }
    Ok(name)
}

fn life(
    expiry: Option<String>,
    valid_days: Option<u32>,
    of: impl Fn() -> String,
) -> Result<Life, SuppliersError> {
    match (expiry, valid_days) {
        (Some(_), Some(_)) => Err(wrong(of(), "either expiry or valid_days")),
        (None, None) => Ok(Life::Until(Expiry::NONE)),
        (None, Some(days)) if days > VALID_DAYS_MAX => Err(wrong(of(), "valid_days is at most 36,500")),
        (None, Some(days)) => Ok(Life::Days(days)),
        (Some(text), None) => {
            let date = jiff::civil::Date::strptime("%Y-%m-%d", &text).ok();
            let date = date.and_then(|date| {
                let year = u32::try_from(date.year()).ok()?;
                Expiry::from_date(year, date.month().unsigned_abs().into(), date.day().unsigned_abs().into())
            });
            date.map(Life::Until).ok_or_else(|| wrong(of(), "expiry is a date as in \"2027-12-31\""))
        }
    }
}

fn yes() -> bool {
    true
}

fn usual_length() -> u8 {
    16
}

fn usual_prefix() -> String {
    "P".to_owned()
}

const NAME_BYTES_MAX: usize = 40;
const VALID_DAYS_MAX: u32 = 36_500;
/// Of the counter at the end of an issued serial; the batch number stands before it.
const SERIAL_DIGITS: u8 = 8;
/// Leaves 6 characters of a serial for the batch number.
const PREFIX_BYTES_MAX: usize = 6;
