//! Who supplies what: the file `suppliers.toml`.

mod text;

use crate::hub::{SupplierKind, Supply};
use crate::intake::{Profile, ProfileError, Recipe};
use crate::policy::ReorderRule;
use crate::stock::Expiry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};
use text::FileText;

/// Everybody stock is ordered from, and when. `spec/orders.md` explains each key.
#[derive(Clone, Debug, Default)]
pub struct Suppliers {
    /// In the order of the file.
    pub suppliers: Vec<Supplier>,
    rules: BTreeMap<String, (String, ReorderRule)>,
}

/// One supplier.
#[derive(Clone, Debug)]
pub struct Supplier {
    /// What operators call it.
    pub name: String,
    /// How it is told and how it delivers.
    pub way: Way,
}

/// How a supplier is told and how it delivers.
#[derive(Clone, Debug)]
pub enum Way {
    /// We issue the PINs.
    Mint(MintTerms),
    /// Files in a directory.
    Spool(Box<SpoolTerms>),
}

/// What we issue.
#[derive(Clone, Debug)]
pub struct MintTerms {
    /// What the PINs look like; the count and the end of the serials' prefix come with the order.
    pub recipe: Recipe,
    /// How long they are valid.
    pub life: Life,
}

/// How files are exchanged.
#[derive(Clone, Debug)]
pub struct SpoolTerms {
    /// Holds `out`, `in`, `done` and `rejected`.
    pub directory: PathBuf,
    /// How batch files are laid out.
    pub profile: Profile,
    /// How long PINs are valid where the file does not say.
    pub life: Life,
    /// What files without an order number hold.
    pub variety: Option<String>,
    /// Whether a file that was taken in is kept, with the PINs it holds in clear.
    pub keep_files: bool,
}

/// The last day of validity where nothing else says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// A day, or none.
    Until(Expiry),
    /// So many days after the day of intake.
    Days(u32),
}

impl Life {
    /// The last day, for PINs that come in at `now_ms` of Unix time.
    #[must_use]
    pub fn expiry(self, now_ms: u64) -> Expiry {
        let days = match self {
            Self::Until(expiry) => return expiry,
            Self::Days(days) => i64::from(days),
        };
        let today = i64::try_from(now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let last = today.map(|today| today.to_zoned(jiff::tz::TimeZone::UTC).date());
        let last = last.and_then(|today| today.checked_add(jiff::Span::new().try_days(days).ok()?).ok());
        let number = |date: jiff::civil::Date| {
            let (year, month, day) = (date.year(), date.month(), date.day());
            let (year, month, day) = (u32::try_from(year).ok()?, month.unsigned_abs(), day.unsigned_abs());
            Expiry::from_date(year, month.into(), day.into())
        };
        last.and_then(number).unwrap_or(Expiry::NONE)
    }
}

/// Why `suppliers.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuppliersError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not TOML, or not of this shape.
    #[error("{SUPPLIERS_FILE} cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A profile.
    #[error("{SUPPLIERS_FILE}, supplier {name:?}: {source}")]
    Profile {
        /// Whose.
        name: String,
        /// What is wrong with it.
        source: ProfileError,
    },
    /// Its keys do not fit together.
    #[error("{SUPPLIERS_FILE}, {of}: {what}")]
    Contradiction {
        /// Which entry.
        of: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Suppliers {
    /// Reads `suppliers.toml` from a data directory; nobody if there is none. Relative paths in it start there.
    ///
    /// # Errors
    /// [`SuppliersError`]: the operator's to mend.
    pub fn read(data: &Path) -> Result<Self, SuppliersError> {
        let path = data.join(SUPPLIERS_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::from_toml(&text, data),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SuppliersError::Unreadable { path, source }),
        }
    }

    /// Reads the text of such a file; relative paths in it start at `base`.
    ///
    /// # Errors
    /// [`SuppliersError`]: the operator's to mend.
    pub fn from_toml(text: &str, base: &Path) -> Result<Self, SuppliersError> {
        let text: FileText = toml::from_str(text)?;
        let suppliers =
            text.supplier.into_iter().map(|entry| entry.read(base)).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for supplier in &suppliers {
            let wrong = |what| wrong(format!("supplier {:?}", supplier.name), what);
            if !names.insert(&supplier.name) {
                return Err(wrong("another has the same name"));
            }
            if let Way::Spool(terms) = &supplier.way
                && !directories.insert(&terms.directory)
            {
                return Err(wrong("another has the same directory"));
            }
        }
        let mut rules = BTreeMap::new();
        for entry in text.reorder {
            let of = format!("reorder of {:?}", entry.variety);
            if !names.contains(&entry.supplier) {
                return Err(wrong(of, "there is no supplier of that name"));
            }
            let rule = entry.rule();
            if rule.point.zip(rule.up_to).is_some_and(|(point, up_to)| up_to < point) {
                return Err(wrong(of, "up_to is at least point"));
            }
            if rule.lot == 0 {
                return Err(wrong(of, "a lot is at least 1"));
            }
            if rules.insert(entry.variety, (entry.supplier, rule)).is_some() {
                return Err(wrong(of, "there are two"));
            }
        }
        Ok(Self { suppliers, rules })
    }

    /// What the hub has to know of it.
    #[must_use]
    pub fn supply(&self) -> Supply {
        let kind = |supplier: &Supplier| match supplier.way {
            Way::Mint(_) => SupplierKind::Mint,
            Way::Spool(_) => SupplierKind::Spool,
        };
        let suppliers = self.suppliers.iter().map(|supplier| (supplier.name.clone(), kind(supplier)));
        Supply { suppliers: suppliers.collect(), rules: self.rules.clone() }
    }
}

fn wrong(of: String, what: &'static str) -> SuppliersError {
    SuppliersError::Contradiction { of, what }
}

/// The name of the file in a data directory.
pub const SUPPLIERS_FILE: &str = "suppliers.toml";

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        [[supplier]]
        name = "blue-cell"
        kind = "spool"
        directory = "blue"
        profile = "pipe-detail"
        expiry = "2027-12-31"

        [[supplier]]
        name = "own"
        kind = "mint"
        length = 14
        luhn = true
        valid_days = 365

        [[reorder]]
        variety = "airtime-za-10"
        supplier = "blue-cell"
        point = 1000
        up_to = 5000
        lot = 100

        [[reorder]]
        variety = "water"
        supplier = "own"
    "#;

    fn refused(text: &str) -> String {
        Suppliers::from_toml(text, Path::new("/base")).unwrap_err().to_string()
    }

    #[test]
    fn suppliers_and_rules_are_read() {
        let read = Suppliers::from_toml(FULL, Path::new("/base")).unwrap();
        let supply = read.supply();
        let kinds: Vec<_> = supply.suppliers.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(kinds, [("blue-cell", SupplierKind::Spool), ("own", SupplierKind::Mint)]);
        let (supplier, rule) = &supply.rules["airtime-za-10"];
        let fixed = ReorderRule { point: Some(1000), up_to: Some(5000), lot: 100, ..ReorderRule::default() };
        assert_eq!((supplier.as_str(), *rule), ("blue-cell", fixed));
        assert_eq!(supply.rules["water"].1, ReorderRule::default(), "what is left out follows sales");
        let Way::Spool(terms) = &read.suppliers[0].way else { panic!("a spool") };
        assert_eq!(terms.directory, Path::new("/base/blue"));
        assert_eq!(terms.life, Life::Until(Expiry(20_271_231)));
        assert_eq!(Suppliers::read(Path::new("/nowhere")).unwrap().suppliers.len(), 0);
    }

    #[test]
    fn a_life_in_days_ends_so_many_days_after_today() {
        let new_year = 1_798_761_600_000; // 2027-01-01
        assert_eq!(Life::Days(0).expiry(new_year), Expiry(20_270_101));
        assert_eq!(Life::Days(59).expiry(new_year + 86_399_999), Expiry(20_270_301));
        assert_eq!(Life::Until(Expiry::NONE).expiry(new_year), Expiry::NONE);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        for (from, to, why) in [
            ("lot = 100", "lots = 100", "lots"),
            ("luhn = true", "lunh = true", "lunh"),
            ("point = 1000", "point = 6000", "up_to is at least point"),
            ("lot = 100", "lot = 0", "at least 1"),
            ("supplier = \"own\"", "supplier = \"other\"", "no supplier of that name"),
            ("variety = \"water\"", "variety = \"airtime-za-10\"", "there are two"),
            ("name = \"own\"", "name = \"blue-cell\"", "the same name"),
            ("name = \"own\"", "name = \"../own\"", "a name is"),
            ("length = 14", "length = 1", "at least one beside the check character"),
            ("valid_days = 365", "valid_days = 365\nexpiry = \"2027-12-31\"", "either"),
            ("2027-12-31", "2027-02-30", "a date as in"),
            ("pipe-detail", "other", "neither"),
            ("pipe-detail", "other.toml", "cannot be read"),
            ("\"mint\"", "\"wish\"", "wish"),
        ] {
            let text = FULL.replace(from, to);
            assert_ne!(text, FULL, "{from}");
            assert!(refused(&text).contains(why), "{from}: {}", refused(&text));
        }
    }
}
