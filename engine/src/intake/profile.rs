//! Profiles: how one supplier writes its files.

use serde::Deserialize;

/// How a supplier's file is laid out. Written in TOML; unknown keys are errors. `spec/intake.md` explains each key.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Between fields; one ASCII character.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether fields may be enclosed in double quotes.
    #[serde(default)]
    pub quotes: bool,
    /// Lines that begin with this are skipped.
    #[serde(default)]
    pub comment: Option<String>,
    /// Lines before the first record, blank and comment lines not counted. The last of them names the columns.
    #[serde(default)]
    pub header_lines: u32,
    /// The first field of every line that holds a PIN.
    #[serde(default)]
    pub record_marker: Option<String>,
    /// The line after the last record.
    #[serde(default)]
    pub trailer: Option<Trailer>,
    /// Where the values are.
    pub columns: Columns,
    /// How dates are written, in `strptime` notation; two-digit years as POSIX reads them.
    #[serde(default = "iso_date")]
    pub date_format: String,
    /// The unit of the face value column.
    #[serde(default)]
    pub face_unit: FaceUnit,
}

/// The line that ends a file and counts it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Its first field.
    pub marker: String,
    /// Position of the number of PINs.
    pub count: u32,
}

/// Where the values of a PIN are.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The serial.
    pub serial: Column,
    /// The PIN.
    pub pin: Column,
    /// The last day of validity.
    #[serde(default)]
    pub expiry: Option<Column>,
    /// The face value, compared with the variety's.
    #[serde(default)]
    pub face: Option<Column>,
}

/// One column.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// By its place, from 1.
    Position(u32),
    /// By its name in the header, in any case of letters.
    Name(String),
}

/// The unit of a face value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaceUnit {
    /// `10.00` or `10` for ten.
    #[default]
    Major,
    /// `1000` for ten of a currency with two digits.
    Minor,
}

impl Profile {
    /// The built-in profile of this name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::from_toml(text).expect("the built-in profiles are tested"))
    }

    /// The names of the built-in profiles.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`]: the operator's to mend.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), ProfileError> {
        let contradiction = |what| Err(ProfileError::Contradiction { what });
        if !self.delimiter.is_ascii()
            || matches!(self.delimiter, '"' | '\r' | '\n' | '0'..='9' | 'A'..='Z' | 'a'..='z')
        {
            return contradiction("the delimiter must be one ASCII character that no PIN or serial contains");
        }
        if self.comment.as_deref() == Some("") || self.record_marker.as_deref() == Some("") {
            return contradiction(
                "a comment prefix or a record marker must not be empty; leave the key out instead",
            );
        }
        if self.trailer.is_some() && self.record_marker.is_none() {
            return contradiction("a trailer needs a record_marker, to tell it from records");
        }
        if self.trailer.as_ref().is_some_and(|trailer| Some(&trailer.marker) == self.record_marker.as_ref()) {
            return contradiction("the trailer's marker must differ from the record_marker");
        }
        let Columns { serial, pin, expiry, face } = &self.columns;
        let columns = [Some(serial), Some(pin), expiry.as_ref(), face.as_ref()];
        let count = self.trailer.as_ref().map(|trailer| Column::Position(trailer.count));
        for column in columns.into_iter().flatten().chain(&count) {
            match column {
                Column::Position(0) => return contradiction("columns are counted from 1"),
                Column::Name(_) if self.header_lines == 0 => {
                    return contradiction("columns can be named only if header_lines is at least 1");
                }
                Column::Name(_) | Column::Position(_) => {}
            }
        }
        // A format that cannot read back what it writes is no date format.
        let sample = jiff::civil::date(2027, 12, 31);
        let written = jiff::fmt::strtime::format(&self.date_format, sample);
        let read = written.and_then(|text| {
            jiff::fmt::strtime::parse(&self.date_format, text).and_then(|parsed| parsed.to_date())
        });
        match read {
            Ok(date) if date == sample => Ok(()),
            _ => contradiction("date_format must name a year, a month and a day, as in %Y-%m-%d"),
        }
    }
}

/// Why a text is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not TOML, or not of this shape.
    #[error("the profile cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Its keys do not fit together.
    #[error("the profile is not usable: {what}")]
    Contradiction {
        /// What is wrong.
        what: &'static str,
    },
}

fn comma() -> char {
    ','
}

fn iso_date() -> String {
    "%Y-%m-%d".to_owned()
}

const BUILT_IN: [(&str, &str); 2] = [
    (
        "serial-pin-expiry",
        r##"
        quotes = true
        comment = "#"
        header_lines = 1
        columns = { serial = "serial", pin = "pin", expiry = "expiry" }
        "##,
    ),
    (
        "pipe-detail",
        r##"
        delimiter = "|"
        comment = "#"
        header_lines = 1
        record_marker = "D"
        trailer = { marker = "B", count = 2 }
        columns = { face = 3, serial = 4, pin = 5 }
        "##,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_sound() {
        assert_eq!(Profile::built_in_names().collect::<Vec<_>>(), ["serial-pin-expiry", "pipe-detail"]);
        assert!(Profile::built_in_names().all(|name| Profile::built_in(name).is_some()));
        assert_eq!(Profile::built_in("other"), None);
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        let columns = "columns = { serial = 1, pin = 2 }\n";
        assert!(Profile::from_toml(columns).is_ok());
        for (key, why) in [
            ("delimiter = \"A\"", "delimiter"),
            ("delimiter = \"é\"", "delimiter"),
            ("comment = \"\"", "empty"),
            ("trailer = { marker = \"B\", count = 2 }", "record_marker"),
            ("record_marker = \"B\"\ntrailer = { marker = \"B\", count = 2 }", "differ"),
            ("record_marker = \"D\"\ntrailer = { marker = \"B\", count = 0 }", "from 1"),
            ("date_format = \"%d\"", "date_format"),
            ("colour = \"red\"", "colour"),
        ] {
            let error = Profile::from_toml(&format!("{key}\n{columns}")).unwrap_err().to_string();
            assert!(error.contains(why), "{key}: {error}");
        }
        for columns in ["{ serial = 0, pin = 2 }", "{ serial = \"serial\", pin = 2 }", "{ serial = 1 }"] {
            assert!(Profile::from_toml(&format!("columns = {columns}")).is_err());
        }
    }
}
