//! From a supplier's file to PINs, or to what is wrong with it.

use super::problem::{Field, Problem, Rejected};
use super::profile::{Column, FaceUnit, Profile};
use super::{DeliveryOrder, Item};
use crate::stock::Expiry;
use std::io::{BufRead, Read};
use std::ops::Range;
use wire::message::{Pin, Serial};

/// What a file holds. Worthless as stock unless `rejected` is empty.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) items: Vec<Item>,
    pub(super) rejected: Rejected,
    /// There are more than [`FILE_PINS_MAX`] records; the rest was not read.
    pub(super) too_long: bool,
}

/// Reads a whole file. `progress` hears the bytes read so far, now and then.
pub(super) fn parse(
    mut input: impl BufRead,
    profile: &Profile,
    order: &DeliveryOrder,
    mut progress: impl FnMut(u64),
) -> std::io::Result<Parsed> {
    let mut parser = Parser::new(profile, order);
    let mut line = Vec::new();
    let mut read_bytes = 0;
    for number in 1.. {
        line.clear();
        let length = (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
        read_bytes += length as u64;
        if length as u64 > LINE_BYTES_MAX {
            parser.parsed.rejected.add(number, Problem::LineTooLong);
            return Ok(parser.parsed);
        }
        if length == 0 {
            parser.end(number - 1);
            break;
        }
        if number % LINES_PER_PROGRESS == 0 {
            progress(read_bytes);
        }
        let text = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
        if !parser.line(number, text.trim_ascii()) {
            break;
        }
    }
    Ok(parser.parsed)
}

struct Parser<'a> {
    profile: &'a Profile,
    order: &'a DeliveryOrder,
    fields: Fields,
    headers_left: u32,
    layout: Option<Layout>,
    records: u64,
    trailer_seen: bool,
    /// The last expiry date read, since neighbours mostly share it.
    last_expiry: (Vec<u8>, Result<Expiry, Problem>),
    parsed: Parsed,
}

impl<'a> Parser<'a> {
    fn new(profile: &'a Profile, order: &'a DeliveryOrder) -> Self {
        let mut parser = Self {
            profile,
            order,
            fields: Fields::default(),
            headers_left: profile.header_lines,
            layout: None,
            records: 0,
            trailer_seen: false,
            last_expiry: (Vec::new(), Ok(order.expiry)),
            parsed: Parsed::default(),
        };
        if profile.header_lines == 0 {
            parser.layout = Layout::new(profile, &parser.fields).ok();
        }
        parser
    }

    /// Takes one line; `false` if reading on is useless.
    fn line(&mut self, number: u32, line: &[u8]) -> bool {
        let comment = self.profile.comment.as_deref();
        if line.is_empty() || comment.is_some_and(|prefix| line.starts_with(prefix.as_bytes())) {
            return true;
        }
        self.fields.split(line, self.profile.delimiter as u8, self.profile.quotes);
        let marker = self.profile.record_marker.as_deref().map(str::as_bytes);
        let is_record = marker.is_none_or(|marker| self.fields.at(0) == Some(marker));
        if self.headers_left > 0 {
            return self.header(number, marker.is_some() && is_record);
        }
        let outcome = if self.trailer_seen {
            Err(Problem::AfterTrailer)
        } else if is_record {
            self.records += 1;
            self.record(number)
        } else {
            self.trailer()
        };
        if let Err(problem) = outcome {
            self.parsed.rejected.add(number, problem);
        }
        self.parsed.too_long = self.records > FILE_PINS_MAX;
        !self.parsed.too_long
    }

    fn header(&mut self, number: u32, is_record: bool) -> bool {
        self.headers_left -= 1;
        let problem = if is_record {
            Problem::HeaderMissing
        } else if self.headers_left > 0 {
            return true;
        } else {
            match Layout::new(self.profile, &self.fields) {
                Ok(layout) => {
                    self.layout = Some(layout);
                    return true;
                }
                Err(problem) => problem,
            }
        };
        self.parsed.rejected.add(number, problem);
        false
    }

    fn record(&mut self, number: u32) -> Result<(), Problem> {
        let layout = self.layout.as_ref().ok_or(Problem::HeaderMissing)?;
        let serial = self.fields.at(layout.serial).ok_or(Problem::Missing(Field::Serial))?;
        let pin = self.fields.at(layout.pin).ok_or(Problem::Missing(Field::Pin))?;
        if !serial.iter().all(u8::is_ascii_alphanumeric) || serial.is_empty() {
            return Err(Problem::SerialShape);
        }
        let serial = Serial::new(serial).ok_or(Problem::SerialShape)?;
        let is_pin = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'-');
        if !pin.iter().all(is_pin) || pin.iter().all(|&byte| byte == b'-') {
            return Err(Problem::PinShape);
        }
        let pin = Pin::new(pin).ok_or(Problem::PinShape)?;
        if let Some(face) = layout.face {
            let face = self.fields.at(face).ok_or(Problem::Missing(Field::Face))?;
            let digits = match self.profile.face_unit {
                FaceUnit::Major => self.order.currency_digits,
                FaceUnit::Minor => 0,
            };
            if amount(face, digits).ok_or(Problem::FaceShape)? != self.order.face_value {
                return Err(Problem::FaceOther);
            }
        }
        let expiry = match layout.expiry {
            None => self.order.expiry,
            Some(column) => {
                let text = self.fields.at(column).ok_or(Problem::Missing(Field::Expiry))?;
                if self.last_expiry.0 != text {
                    self.last_expiry = (text.to_vec(), expiry(&self.profile.date_format, text));
                }
                if text.is_empty() { self.order.expiry } else { self.last_expiry.1? }
            }
        };
        if !expiry.is_valid_at(self.order.now_ms) {
            return Err(Problem::Expired);
        }
        self.parsed.items.push(Item { pin, serial, line: number, expiry });
        Ok(())
    }

    fn trailer(&mut self) -> Result<(), Problem> {
        let trailer = self.profile.trailer.as_ref().ok_or(Problem::UnknownLine)?;
        if self.fields.at(0) != Some(trailer.marker.as_bytes()) {
            return Err(Problem::UnknownLine);
        }
        self.trailer_seen = true;
        let count = self.fields.at(trailer.count as usize - 1).ok_or(Problem::TrailerShape)?;
        let said = amount(count, 0).ok_or(Problem::TrailerShape)?;
        let found = self.records;
        if said == found { Ok(()) } else { Err(Problem::TrailerCount { said, found }) }
    }

    fn end(&mut self, last_line: u32) {
        if self.headers_left > 0 {
            self.parsed.rejected.add(last_line.max(1), Problem::HeaderMissing);
        } else if self.profile.trailer.is_some() && !self.trailer_seen {
            self.parsed.rejected.add(last_line.max(1), Problem::TrailerMissing);
        }
    }
}

/// Which field holds what, from 0.
struct Layout {
    serial: usize,
    pin: usize,
    expiry: Option<usize>,
    face: Option<usize>,
}

impl Layout {
    fn new(profile: &Profile, header: &Fields) -> Result<Self, Problem> {
        let find = |column: &Column, field: Field| match column {
            Column::Position(position) => Ok(*position as usize - 1),
            Column::Name(name) => {
                let is_it = |at: &usize| {
                    header.at(*at).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
                };
                let mut found = (0..header.count()).filter(is_it);
                match (found.next(), found.next()) {
                    (Some(at), None) => Ok(at),
                    _ => Err(Problem::NoSuchColumn(field)),
                }
            }
        };
        let columns = &profile.columns;
        let optional =
            |column: &Option<Column>, field| column.as_ref().map(|column| find(column, field)).transpose();
        Ok(Self {
            serial: find(&columns.serial, Field::Serial)?,
            pin: find(&columns.pin, Field::Pin)?,
            expiry: optional(&columns.expiry, Field::Expiry)?,
            face: optional(&columns.face, Field::Face)?,
        })
    }
}

/// The fields of one line.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Fields {
    fn split(&mut self, line: &[u8], delimiter: u8, quotes: bool) {
        self.text.clear();
        self.ranges.clear();
        if quotes && line.contains(&b'"') {
            return self.split_quoted(line, delimiter);
        }
        self.text.extend_from_slice(line);
        let mut start = 0;
        for (at, &byte) in line.iter().enumerate() {
            if byte == delimiter {
                self.ranges.push(start..at);
                start = at + 1;
            }
        }
        self.ranges.push(start..line.len());
    }

    fn split_quoted(&mut self, line: &[u8], delimiter: u8) {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .buffer_capacity(line.len())
            .from_reader(line);
        let mut record = csv::ByteRecord::new();
        // Without a second line to differ from, a line has no way to be wrong.
        if reader.read_byte_record(&mut record).is_ok() {
            self.text.extend_from_slice(record.as_slice());
            self.ranges.extend((0..record.len()).filter_map(|at| record.range(at)));
        }
    }

    /// The field at this place, from 0, without spaces around it.
    fn at(&self, place: usize) -> Option<&[u8]> {
        Some(self.text[self.ranges.get(place)?.clone()].trim_ascii())
    }

    fn count(&self) -> usize {
        self.ranges.len()
    }
}

/// A decimal amount in units of 10^-digits, exactly: no sign, no rounding.
fn amount(text: &[u8], digits: u8) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(usize::from(digits)));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let scale = 10u64.checked_pow(u32::from(digits))?;
    let part = match kept {
        "" => 0,
        kept => kept.parse::<u64>().ok()? * 10u64.pow(u32::from(digits) - kept.len() as u32),
    };
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(part)
}

fn expiry(format: &str, text: &[u8]) -> Result<Expiry, Problem> {
    let date = jiff::fmt::strtime::parse(format, text)
        .and_then(|parsed| parsed.to_date())
        .map_err(|_| Problem::ExpiryShape)?;
    let part = |part: i16| u32::try_from(part).unwrap_or(0);
    Expiry::from_date(part(date.year()), part(date.month().into()), part(date.day().into()))
        .ok_or(Problem::ExpiryShape)
}

/// Most PINs in one file: a bound on memory, some 250 MB.
pub const FILE_PINS_MAX: u64 = 2_000_000;
const LINE_BYTES_MAX: u64 = 4096;
const LINES_PER_PROGRESS: u32 = 16_384;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::tests::order;
    use proptest::prelude::*;

    fn parsed(profile: &str, text: &str) -> Parsed {
        parse(text.as_bytes(), &Profile::built_in(profile).unwrap(), &order(), |_| {}).unwrap()
    }

    fn problems(profile: &str, text: &str) -> Vec<(u32, Problem)> {
        parsed(profile, text).rejected.first.iter().map(|found| (found.line, found.problem)).collect()
    }

    #[test]
    fn a_comma_separated_file_is_read_with_comments_quotes_and_any_order_of_columns() {
        let text = "\u{feff}# Delivery 4711\r\n\r\nPIN , Expiry,\"serial\"\r\n\
                    1234-5678-9012-3456,2027-12-31,S0001\r\n\
                    # half way\r\n\
                    \"ABC123\",\"\",\" s0002 \"\r\n\
                    999999999999,2028-02-29,S0003";
        let parsed = parsed("serial-pin-expiry", text);
        assert_eq!(parsed.rejected, Rejected::default());
        let items: Vec<_> = parsed
            .items
            .iter()
            .map(|item| (item.line, item.pin.as_bytes(), item.serial.as_bytes(), item.expiry.0))
            .collect();
        let expected: [(u32, &[u8], &[u8], u32); 3] = [
            (4, b"1234-5678-9012-3456", b"S0001", 20_271_231),
            (6, b"ABC123", b"s0002", 0),
            (7, b"999999999999", b"S0003", 20_280_229),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn a_pipe_delimited_file_is_read_between_header_and_balance() {
        let text = "H|MNO|20261101|2\nD|MNO|10.00|S1|111122223333|9.20\nD|MNO|10|S2|444455556666|9.20\nB|2|20.00\n\n";
        let parsed = parsed("pipe-detail", text);
        assert_eq!(parsed.rejected, Rejected::default());
        assert_eq!(parsed.items.len(), 2);
        assert_eq!(parsed.items[1].pin.as_bytes(), b"444455556666");
    }

    #[test]
    fn each_fault_of_a_line_is_told_by_its_line_number() {
        let long_pin = "1".repeat(27);
        let long_serial = "s".repeat(21);
        for (line, problem) in [
            ("S1", Problem::Missing(Field::Pin)),
            ("S1,123", Problem::Missing(Field::Expiry)),
            ("S1,,2027-12-31", Problem::PinShape),
            ("S1,---,2027-12-31", Problem::PinShape),
            ("S1,12a4,2027-12-31", Problem::PinShape),
            (&format!("S1,{long_pin},2027-12-31"), Problem::PinShape),
            (",123,2027-12-31", Problem::SerialShape),
            ("S-1,123,2027-12-31", Problem::SerialShape),
            (&format!("{long_serial},123,2027-12-31"), Problem::SerialShape),
            ("S1,123,31.12.2027", Problem::ExpiryShape),
            ("S1,123,2027-02-30", Problem::ExpiryShape),
            ("S1,123,2020-01-01", Problem::Expired),
        ] {
            let text = format!("serial,pin,expiry\nS0,99,2027-12-31\n{line}\n");
            assert_eq!(problems("serial-pin-expiry", &text), [(3, problem)], "{line}");
        }
        for (line, problem) in [
            ("D|MNO|11.00|S1|123|9", Problem::FaceOther),
            ("D|MNO|10.001|S1|123|9", Problem::FaceShape),
            ("D|MNO|-10|S1|123|9", Problem::FaceShape),
            ("D|MNO|ten|S1|123|9", Problem::FaceShape),
            ("D|MNO", Problem::Missing(Field::Serial)),
        ] {
            assert_eq!(problems("pipe-detail", &format!("H\n{line}\nB|1\n")), [(2, problem)], "{line}");
        }
    }

    #[test]
    fn a_file_that_was_cut_or_patched_is_noticed() {
        let record = "D|MNO|10.00|S1|123|9\n";
        let cases: [(String, &[(u32, Problem)]); 7] = [
            (format!("H\n{record}"), &[(2, Problem::TrailerMissing)]),
            (format!("H\n{record}B|2\n"), &[(3, Problem::TrailerCount { said: 2, found: 1 })]),
            (format!("H\n{record}B|x\n"), &[(3, Problem::TrailerShape)]),
            (format!("H\n{record}B\n"), &[(3, Problem::TrailerShape)]),
            (format!("H\n{record}B|1\n{record}"), &[(4, Problem::AfterTrailer)]),
            (format!("H\nX|1\n{record}B|1\n"), &[(2, Problem::UnknownLine)]),
            (format!("{record}B|1\n"), &[(1, Problem::HeaderMissing)]),
        ];
        for (text, expected) in cases {
            assert_eq!(problems("pipe-detail", &text), expected, "{text}");
        }
        assert_eq!(problems("pipe-detail", ""), [(1, Problem::HeaderMissing)]);
    }

    #[test]
    fn a_header_without_the_named_columns_is_refused_at_once() {
        let text = "serial,code,expiry\nS1,123,2027-12-31\n";
        assert_eq!(problems("serial-pin-expiry", text), [(1, Problem::NoSuchColumn(Field::Pin))]);
        let text = "serial,pin,expiry,pin\nS1,123,2027-12-31,124\n";
        assert_eq!(problems("serial-pin-expiry", text), [(1, Problem::NoSuchColumn(Field::Pin))]);
    }

    #[test]
    fn a_file_of_one_endless_line_costs_no_memory() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let parsed = parse(endless, &Profile::built_in("pipe-detail").unwrap(), &order(), |_| {}).unwrap();
        assert_eq!(parsed.rejected.first[0].problem, Problem::LineTooLong);
    }

    #[test]
    fn a_profile_of_ones_own_reads_other_dates_and_minor_units() {
        let profile = Profile::from_toml(
            "delimiter = ';'\ncomment = '//'\ndate_format = '%d.%m.%y'\nface_unit = 'minor'\n\
             columns = { pin = 1, serial = 2, expiry = 3, face = 4 }",
        )
        .unwrap();
        let parsed = parse(&b"//;;\n123;S1;31.12.27;1000\n"[..], &profile, &order(), |_| {}).unwrap();
        assert_eq!(parsed.rejected, Rejected::default());
        assert_eq!(parsed.items[0].expiry, Expiry(20_271_231));
    }

    #[test]
    fn amounts_are_exact() {
        for (text, digits, expected) in [
            ("10", 2, Some(1000)),
            ("10.5", 2, Some(1050)),
            ("10.50", 2, Some(1050)),
            ("10.500", 2, Some(1050)),
            ("10.505", 2, None),
            ("10.", 2, Some(1000)),
            (".5", 2, None),
            ("1e3", 0, None),
            ("18446744073709551615", 0, Some(u64::MAX)),
            ("18446744073709551615", 1, None),
        ] {
            assert_eq!(amount(text.as_bytes(), digits), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), which in 0..2usize) {
            let name = Profile::built_in_names().nth(which).unwrap();
            parse(&bytes[..], &Profile::built_in(name).unwrap(), &order(), |_| {}).unwrap();
        }
    }
}
