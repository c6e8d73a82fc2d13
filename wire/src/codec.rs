//! Requests and replies as bytes. Writing never allocates; reading does only for what [`crate::message`] boxes.
//!
//! The *inner form* of a message is its header and body: what a sealed frame holds, and what a clear frame holds
//! with a longer `length` and a checksum behind it.

use crate::frame::{Class, FrameError, HEADER_BYTES, Header, Kind, TRAILER_BYTES, VERSION_MAX};
use crate::message::{
    ADDRESSES_MAX, Addresses, Attempt, CATALOGUE_ENTRIES_MAX, CatalogueEntry, CataloguePage, Charset,
    DeclineReason, KeyEpoch, LaterReason, Login, Outcome, RefuseReason, Reply, Request, Resolved, SellerId,
    SequenceState, Settle, SettleAction, Settled, Sold, Text, UNRESOLVED_MAX, Vend, Welcome,
};
use crate::session::Suite;
use crate::settlement::SoldBox;
use alloc::boxed::Box;

/// Writes a request in inner form to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than the message; [`crate::frame::REQUEST_BYTES_MAX`] is always enough.
pub fn encode_request(correlation: u16, request: &Request, out: &mut [u8]) -> usize {
    let mut body = Writer::new(&mut out[HEADER_BYTES..]);
    let kind = match request {
        Request::Login(login) => {
            let pairs = login.pairs();
            body.count(pairs.len());
            body.bytes(&[0; 3]);
            for (seller, sequence) in pairs {
                body.u32(seller.0);
                body.u64(*sequence);
            }
            Kind::Login
        }
        Request::Catalogue { from } => {
            body.u16(*from);
            Kind::Catalogue
        }
        Request::Vend(vend) => {
            body.u64(vend.sequence);
            body.u64(vend.face_value);
            body.u64(vend.confirmed);
            body.u32(vend.product);
            body.u32(vend.deadline_ms);
            body.bytes(&[vend.attempt as u8]);
            Kind::Vend
        }
        Request::Confirm { sequence } => {
            body.u64(*sequence);
            Kind::Confirm
        }
        Request::Void { sequence } => {
            body.u64(*sequence);
            Kind::Void
        }
        Request::Status { sequence } => {
            body.u64(*sequence);
            Kind::Status
        }
        Request::Reprint { sequence } => {
            body.u64(*sequence);
            Kind::Reprint
        }
        Request::Settle(settle) => {
            body.u32(settle.seller.0);
            body.bytes(&[settle.action as u8, settle.suite as u8, 0, 0]);
            body.u64(settle.sequence);
            Kind::Settle
        }
    };
    let length = HEADER_BYTES + body.length();
    write_header(kind, correlation, length, out)
}

/// Writes a reply in inner form to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than the message; [`crate::frame::REPLY_BYTES_MAX`] is always enough.
pub fn encode_reply(correlation: u16, reply: &Reply, out: &mut [u8]) -> usize {
    let mut body = Writer::new(&mut out[HEADER_BYTES..]);
    let kind = match reply {
        Reply::Welcome(welcome) => {
            write_welcome(&mut body, welcome);
            Kind::Welcome
        }
        Reply::Resolved(resolved) => {
            let outcomes = resolved.list();
            body.count(outcomes.len());
            body.bytes(&[0; 3]);
            for outcome in outcomes {
                body.u32(outcome.seller.0);
                body.bytes(&[outcome.state as u8, 0, 0, 0]);
                body.u64(outcome.sequence);
                body.u64(outcome.reference);
            }
            Kind::Resolved
        }
        Reply::Catalogue(page) => {
            write_page(&mut body, page);
            Kind::CataloguePage
        }
        Reply::Sold(sold) => {
            sold_fields(&mut body, sold);
            Kind::Sold
        }
        Reply::Declined { sequence, reason } => {
            body.u64(*sequence);
            body.bytes(&[*reason as u8]);
            Kind::Declined
        }
        Reply::Later { sequence, reason, wait_ms, reference } => {
            body.u64(*sequence);
            body.u64(*reference);
            body.u32(*wait_ms);
            body.bytes(&[*reason as u8]);
            Kind::Later
        }
        Reply::Refused { sequence, reason } => {
            body.u64(*sequence);
            body.bytes(&[*reason as u8]);
            Kind::Refused
        }
        Reply::State { sequence, state, reference } => {
            body.u64(*sequence);
            body.u64(*reference);
            body.bytes(&[*state as u8]);
            Kind::State
        }
        Reply::Settled(settled) => {
            let sealed = settled.sealed.as_bytes();
            body.u32(settled.seller.0);
            body.bytes(&[settled.state as u8]);
            body.count(sealed.len());
            body.bytes(&[0; 2]);
            body.u64(settled.sequence);
            body.u64(settled.reference);
            body.bytes(sealed);
            Kind::Settled
        }
    };
    let length = HEADER_BYTES + body.length();
    write_header(kind, correlation, length, out)
}

/// Reads a request in inner form that fills `inner`; returns its correlation too.
///
/// # Errors
/// `Kind` for what is not a request, and every other [`FrameError`] but `Checksum`.
pub fn decode_request(inner: &[u8]) -> Result<(u16, Request), FrameError> {
    let (header, body) = whole(inner)?;
    Ok((header.correlation, request_body(header.kind, body)?))
}

/// Reads a reply in inner form that fills `inner`; returns its correlation too.
///
/// # Errors
/// `Kind` for what is not a reply, and every other [`FrameError`] but `Checksum`.
pub fn decode_reply(inner: &[u8]) -> Result<(u16, Reply), FrameError> {
    let (header, body) = whole(inner)?;
    Ok((header.correlation, reply_body(header.kind, body)?))
}

/// Turns a message in inner form at the front of `out` into a clear frame; returns the frame's length in bytes.
pub(crate) fn add_trailer(inner_bytes: usize, out: &mut [u8]) -> usize {
    let length = inner_bytes + TRAILER_BYTES;
    out[..2].copy_from_slice(&u16::try_from(length).expect("no message is that long").to_le_bytes());
    let checksum = xxhash_rust::xxh32::xxh32(&out[..inner_bytes], 0);
    out[inner_bytes..length].copy_from_slice(&checksum.to_le_bytes());
    length
}

/// The header and body of a clear frame whose trailer is right.
pub(crate) fn check_trailer(frame: &[u8]) -> Result<&[u8], FrameError> {
    let (message, trailer) = frame.split_last_chunk::<TRAILER_BYTES>().ok_or(FrameError::Malformed)?;
    if xxhash_rust::xxh32::xxh32(message, 0) != u32::from_le_bytes(*trailer) {
        return Err(FrameError::Checksum);
    }
    message.get(HEADER_BYTES..).ok_or(FrameError::Malformed)
}

/// Reads the body of a request.
pub(crate) fn request_body(kind: Kind, body: &[u8]) -> Result<Request, FrameError> {
    let mut reader = Reader::new(body);
    let request = match kind {
        Kind::Login => {
            let count = reader.count(UNRESOLVED_MAX)?;
            reader.zeros(3)?;
            let mut login = Box::new(Login { count, ..Login::EMPTY });
            for pair in &mut login.unresolved[..usize::from(count)] {
                *pair = (SellerId(reader.u32()?), reader.u64()?);
            }
            Request::Login(login)
        }
        Kind::Catalogue => Request::Catalogue { from: reader.u16()? },
        Kind::Vend => Request::Vend(Vend {
            sequence: reader.u64()?,
            face_value: reader.u64()?,
            confirmed: reader.u64()?,
            product: reader.u32()?,
            deadline_ms: reader.u32()?,
            attempt: reader.coded(Attempt::from_byte)?,
        }),
        Kind::Confirm => Request::Confirm { sequence: reader.u64()? },
        Kind::Void => Request::Void { sequence: reader.u64()? },
        Kind::Status => Request::Status { sequence: reader.u64()? },
        Kind::Reprint => Request::Reprint { sequence: reader.u64()? },
        Kind::Settle => {
            let seller = SellerId(reader.u32()?);
            let action = reader.coded(SettleAction::from_byte)?;
            let suite = reader.coded(Suite::from_byte)?;
            reader.zeros(2)?;
            Request::Settle(Settle { seller, sequence: reader.u64()?, action, suite })
        }
        _ => return Err(FrameError::Kind),
    };
    reader.end()?;
    Ok(request)
}

/// Reads the body of a reply.
pub(crate) fn reply_body(kind: Kind, body: &[u8]) -> Result<Reply, FrameError> {
    let mut reader = Reader::new(body);
    let reply = match kind {
        Kind::Welcome => Reply::Welcome(Box::new(read_welcome(&mut reader)?)),
        Kind::Resolved => {
            let count = reader.count(UNRESOLVED_MAX)?;
            reader.zeros(3)?;
            let mut resolved = Box::new(Resolved { count, ..Resolved::EMPTY });
            for outcome in &mut resolved.outcomes[..usize::from(count)] {
                let seller = SellerId(reader.u32()?);
                let state = reader.coded(SequenceState::from_byte)?;
                reader.zeros(3)?;
                *outcome = Outcome { seller, state, sequence: reader.u64()?, reference: reader.u64()? };
            }
            Reply::Resolved(resolved)
        }
        Kind::CataloguePage => Reply::Catalogue(Box::new(read_page(&mut reader)?)),
        Kind::Sold => Reply::Sold(sold_of(&mut reader)?),
        Kind::Declined => {
            Reply::Declined { sequence: reader.u64()?, reason: reader.coded(DeclineReason::from_byte)? }
        }
        Kind::Later => Reply::Later {
            sequence: reader.u64()?,
            reference: reader.u64()?,
            wait_ms: reader.u32()?,
            reason: reader.coded(LaterReason::from_byte)?,
        },
        Kind::Refused => {
            Reply::Refused { sequence: reader.u64()?, reason: reader.coded(RefuseReason::from_byte)? }
        }
        Kind::State => Reply::State {
            sequence: reader.u64()?,
            reference: reader.u64()?,
            state: reader.coded(SequenceState::from_byte)?,
        },
        Kind::Settled => {
            let seller = SellerId(reader.u32()?);
            let state = reader.coded(SequenceState::from_byte)?;
            let sealed_bytes = reader.u8()?;
            reader.zeros(2)?;
            let (sequence, reference) = (reader.u64()?, reader.u64()?);
            let sealed = SoldBox::from_bytes(reader.take(usize::from(sealed_bytes))?)?;
            Reply::Settled(Box::new(Settled { seller, sequence, state, reference, sealed }))
        }
        _ => return Err(FrameError::Kind),
    };
    reader.end()?;
    Ok(reply)
}

/// Writes what is said of a sold PIN; its length.
pub(crate) fn write_sold(sold: &Sold, out: &mut [u8]) -> usize {
    let mut body = Writer::new(out);
    sold_fields(&mut body, sold);
    body.length()
}

/// Reads what [`write_sold`] writes.
pub(crate) fn read_sold(bytes: &[u8]) -> Result<Sold, FrameError> {
    let mut reader = Reader::new(bytes);
    let sold = sold_of(&mut reader)?;
    reader.end()?;
    Ok(sold)
}

fn sold_fields(body: &mut Writer<'_>, sold: &Sold) {
    body.u64(sold.sequence);
    body.u64(sold.reference);
    body.u32(sold.expiry);
    body.u16(sold.copy);
    body.count(sold.pin.as_bytes().len());
    body.count(sold.serial.as_bytes().len());
    body.bytes(sold.pin.as_bytes());
    body.bytes(sold.serial.as_bytes());
}

fn sold_of(reader: &mut Reader<'_>) -> Result<Sold, FrameError> {
    let (sequence, reference) = (reader.u64()?, reader.u64()?);
    let (expiry, copy) = (reader.u32()?, reader.u16()?);
    let (pin_bytes, serial_bytes) = (reader.u8()?, reader.u8()?);
    let (pin, serial) = (reader.text(pin_bytes)?, reader.text(serial_bytes)?);
    Ok(Sold { sequence, reference, copy, expiry, pin, serial })
}

fn whole(inner: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let header = Header::parse(inner, 0)?.ok_or(FrameError::Malformed)?;
    if header.length != inner.len() {
        return Err(FrameError::Malformed);
    }
    match header.kind.class() {
        Class::Request | Class::Reply => Ok((header, &inner[HEADER_BYTES..])),
        Class::Connection | Class::Sealed => Err(FrameError::Kind),
    }
}

fn write_header(kind: Kind, correlation: u16, length: usize, out: &mut [u8]) -> usize {
    let header = Header { length, kind, version: VERSION_MAX, correlation };
    out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    length
}

fn write_welcome(body: &mut Writer<'_>, welcome: &Welcome) {
    body.u32(welcome.seller.0);
    body.u32(welcome.key_epoch.0);
    body.u64(welcome.next_sequence);
    body.u64(welcome.window_base);
    body.u32(welcome.catalogue_version);
    body.u32(welcome.back_off_min_ms);
    body.u32(welcome.back_off_max_ms);
    body.u16(welcome.ping_interval_s);
    body.bytes(&[welcome.window]);
    body.count(welcome.addresses.entries().len());
    write_addresses(body, &welcome.addresses);
}

fn read_welcome(reader: &mut Reader<'_>) -> Result<Welcome, FrameError> {
    let (seller, key_epoch) = (SellerId(reader.u32()?), KeyEpoch(reader.u32()?));
    let (next_sequence, window_base) = (reader.u64()?, reader.u64()?);
    let catalogue_version = reader.u32()?;
    let (back_off_min_ms, back_off_max_ms) = (reader.u32()?, reader.u32()?);
    let (ping_interval_s, window, count) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let addresses = read_addresses(reader, count)?;
    Ok(Welcome {
        seller,
        key_epoch,
        next_sequence,
        window_base,
        window,
        ping_interval_s,
        back_off_min_ms,
        back_off_max_ms,
        catalogue_version,
        addresses,
    })
}

fn write_page(body: &mut Writer<'_>, page: &CataloguePage) {
    let entries = page.list();
    body.u32(page.version);
    body.u16(page.total);
    body.u16(page.from);
    body.count(entries.len());
    body.bytes(&[0; 3]);
    for entry in entries {
        body.u64(entry.face_value);
        body.u32(entry.product);
        body.bytes(&entry.currency);
        body.bytes(&[entry.currency_digits, u8::from(entry.available), entry.charset as u8]);
        body.count(entry.name.as_bytes().len());
        body.count(entry.receipt.as_bytes().len());
        body.bytes(entry.name.as_bytes());
        body.bytes(entry.receipt.as_bytes());
    }
}

fn read_page(reader: &mut Reader<'_>) -> Result<CataloguePage, FrameError> {
    let (version, total, from) = (reader.u32()?, reader.u16()?, reader.u16()?);
    let count = reader.count(CATALOGUE_ENTRIES_MAX)?;
    reader.zeros(3)?;
    let mut entries = [CatalogueEntry::EMPTY; CATALOGUE_ENTRIES_MAX];
    for entry in &mut entries[..usize::from(count)] {
        let (face_value, product) = (reader.u64()?, reader.u32()?);
        let currency = reader.array()?;
        let currency_digits = reader.u8()?;
        let available = reader.coded(|byte| (byte < 2).then_some(byte == 1))?;
        let charset = reader.coded(Charset::from_byte)?;
        let (name_bytes, receipt_bytes) = (reader.u8()?, reader.u8()?);
        let (name, receipt) = (reader.text(name_bytes)?, reader.text(receipt_bytes)?);
        *entry = CatalogueEntry {
            product,
            face_value,
            currency,
            currency_digits,
            available,
            charset,
            name,
            receipt,
        };
    }
    Ok(CataloguePage { version, total, from, count, entries })
}

/// Writes the addresses that count, without the count.
pub(crate) fn write_addresses(body: &mut Writer<'_>, addresses: &Addresses) {
    for (address, port) in addresses.entries() {
        body.bytes(address);
        body.u16(*port);
    }
}

/// Reads `count` addresses.
pub(crate) fn read_addresses(reader: &mut Reader<'_>, count: u8) -> Result<Addresses, FrameError> {
    let mut addresses = Addresses { count, ..Addresses::default() };
    if usize::from(count) > ADDRESSES_MAX {
        return Err(FrameError::Malformed);
    }
    for entry in &mut addresses.list[..usize::from(count)] {
        *entry = (reader.array()?, reader.u16()?);
    }
    Ok(addresses)
}

/// Appends little-endian fields to a caller's buffer; panics where the buffer ends.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    pub(crate) fn length(&self) -> usize {
        self.at
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.bytes(&[u8::try_from(count).expect("counts and texts are bounded far below 256")]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Takes little-endian fields from the front of a peer's bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(FrameError::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn coded<T>(&mut self, from_byte: impl FnOnce(u8) -> Option<T>) -> Result<T, FrameError> {
        from_byte(self.u8()?).ok_or(FrameError::Malformed)
    }

    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), FrameError> {
        for _ in 0..count {
            self.coded(|byte| (byte == 0).then_some(()))?;
        }
        Ok(())
    }

    pub(crate) fn text<const N: usize>(&mut self, bytes: u8) -> Result<Text<N>, FrameError> {
        let (text, rest) = self.rest.split_at_checked(usize::from(bytes)).ok_or(FrameError::Malformed)?;
        self.rest = rest;
        Text::new(text).ok_or(FrameError::Malformed)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(FrameError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn count(&mut self, most: usize) -> Result<u8, FrameError> {
        self.coded(|count| (usize::from(count) <= most).then_some(count))
    }

    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameError::Malformed) }
    }
}
