//! `pinwheel buy`: a till on the command line.

use super::office::{Caller, note, valid_to};
use super::screen::{say, say_json};
use super::{BuyArgs, Exit, files};
use crate::admin::KeyRow;
use crate::ids::{KeyEpoch, PinId, TerminalId};
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;
use wire::client::{Client, ClientError, Config, FileStore, SaleId, SaleState, StoreError, Vended};
use wire::message::{CatalogueEntry, Charset, Sold};

/// Buys.
pub(super) fn buy(caller: &Caller, args: &BuyArgs) -> Result<(), Exit> {
    let path = args.keys.clone().unwrap_or_else(|| files::terminals_path(&caller.data));
    let keys = files::read_keys(&path)?;
    let wanted = match (&args.variety, args.product, args.face_value) {
        (Some(code), ..) => {
            let varieties = caller.varieties()?;
            let variety = varieties.iter().find(|variety| variety.code == *code);
            let variety = variety.ok_or_else(|| Exit::no(format!("there is no variety {code:?}")))?;
            Some((variety.product, variety.face_value))
        }
        (None, product, face_value) => product.zip(face_value),
    };
    let mut till = Till::open(caller, args, &keys)?;
    till.finish_earlier()?;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => till.first_available()?,
    };
    for _ in 0..args.count {
        till.buy(wanted)?;
    }
    till.client.close();
    Ok(())
}

/// A terminal with its key and its storage.
struct Till {
    client: Client<FileStore>,
    terminal: TerminalId,
    catalogue: Vec<CatalogueEntry>,
    patience: Duration,
    json: bool,
}

/// What a program reads of a sale.
#[derive(Serialize)]
struct Slip {
    outcome: &'static str,
    terminal: u64,
    seller: u32,
    sequence: u64,
    product: u32,
    face_value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Till {
    fn open(caller: &Caller, args: &BuyArgs, keys: &[KeyRow]) -> Result<Self, Exit> {
        let address = args.connect.map_or_else(|| known_address(caller), Ok)?;
        let is_wanted = |key: &&KeyRow| args.terminal.is_none_or(|terminal| terminal.0 == key.terminal);
        let candidates = keys.iter().filter(is_wanted);
        let mut in_use = None;
        for key in candidates {
            let path = files::till_path(&caller.data, key.terminal);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(Exit::unreachable)?;
            }
            let epoch = KeyEpoch(key.key_epoch);
            let config = Config::new(address, TerminalId(key.terminal), epoch, *key.key.expose());
            match Client::new(config, FileStore::new(path)) {
                Ok(client) => {
                    return Ok(Self {
                        client,
                        terminal: TerminalId(key.terminal),
                        catalogue: Vec::new(),
                        patience: Duration::from_secs(args.patience),
                        json: caller.json,
                    });
                }
                Err(ClientError::Store(error @ StoreError::InUse { .. })) => in_use = Some(error),
                Err(error) => return Err(Exit::no(error)),
            }
        }
        match (in_use, args.terminal) {
            (Some(error), _) => Err(Exit::no(error)),
            (None, Some(terminal)) => Err(Exit::no(format!("there is no key for terminal {}", terminal.0))),
            (None, None) => Err(Exit::no("there is no terminal: see `pinwheel terminal add --help`")),
        }
    }

    /// A sale that was interrupted is asked for again before anything new is: its PIN may be sold.
    fn finish_earlier(&mut self) -> Result<(), Exit> {
        let earlier: Vec<_> = self.client.unresolved().to_vec();
        for sale in earlier.iter().filter(|sale| sale.state == SaleState::Asked) {
            if !self.json {
                note(&format!("finishing an interrupted sale first: number {}", sale.id.sequence));
            }
            match self.client.repeat(sale.id, self.patience) {
                Ok(vended) => self.hand_out(vended, (sale.product, sale.face_value))?,
                // It was never sold, or is final: the client has forgotten it by now.
                Err(ClientError::Refused { .. }) => {}
                Err(error) => return Err(exit(&error)),
            }
        }
        Ok(())
    }

    fn first_available(&mut self) -> Result<(u32, u64), Exit> {
        let catalogue = self.catalogue()?;
        let entry = catalogue.iter().find(|entry| entry.available).or(catalogue.first());
        entry.map(|entry| (entry.product, entry.face_value)).ok_or_else(|| Exit::no("nothing is sold here"))
    }

    fn catalogue(&mut self) -> Result<&[CatalogueEntry], Exit> {
        if self.catalogue.is_empty() {
            self.catalogue = self.client.catalogue(self.patience).map_err(|error| exit(&error))?;
        }
        Ok(&self.catalogue)
    }

    fn buy(&mut self, wanted: (u32, u64)) -> Result<(), Exit> {
        let vended = self.client.vend(wanted.0, wanted.1, self.patience).map_err(|error| exit(&error))?;
        self.hand_out(vended, wanted)
    }

    /// Prints what came of a sale, and confirms what is printed.
    fn hand_out(&mut self, vended: Vended, wanted: (u32, u64)) -> Result<(), Exit> {
        let slip = |outcome, id: SaleId, reason| Slip {
            outcome,
            terminal: self.terminal.0,
            seller: id.seller.0,
            sequence: id.sequence,
            product: wanted.0,
            face_value: wanted.1,
            pin: None,
            serial: None,
            expiry: None,
            reference: None,
            reason,
        };
        match vended {
            Vended::Sold(id, sold) => {
                if self.json {
                    say_json(&Slip {
                        pin: Some(ascii(sold.pin.as_bytes())),
                        serial: Some(ascii(sold.serial.as_bytes())),
                        expiry: Some(sold.expiry),
                        reference: Some(sold.reference),
                        ..slip("sold", id, None)
                    });
                } else {
                    let terminal = self.terminal;
                    // Without a catalogue there is still a PIN.
                    let catalogue = self.catalogue().unwrap_or_default();
                    let entry =
                        catalogue.iter().find(|entry| (entry.product, entry.face_value) == wanted).copied();
                    say(&receipt(entry.as_ref(), terminal, id, &sold));
                }
                self.client.confirm(id, self.patience).map(drop).map_err(|error| exit(&error))
            }
            Vended::Declined(id, reason) => {
                if self.json {
                    say_json(&slip("declined", id, Some(format!("{reason:?}"))));
                    return Err(Exit::said());
                }
                Err(Exit::no(format!("declined: {reason:?}")))
            }
            Vended::Final(id, state) => {
                let state = format!("{state:?}").to_lowercase();
                if self.json {
                    say_json(&slip("final", id, Some(state)));
                    return Err(Exit::said());
                }
                Err(Exit::no(format!("sale number {} is {state}", id.sequence)))
            }
            Vended::Unresolved(id, reason) => {
                let reason = reason.map_or_else(|| "NoAnswer".to_owned(), |reason| format!("{reason:?}"));
                if self.json {
                    say_json(&slip("unresolved", id, Some(reason)));
                    return Err(Exit::said());
                }
                Err(Exit::no(format!(
                    "no final answer yet ({reason}): the next `buy` of terminal {} asks again",
                    self.terminal.0
                )))
            }
        }
    }
}

fn known_address(caller: &Caller) -> Result<SocketAddr, Exit> {
    let path = files::address_path(&caller.data);
    let text = std::fs::read_to_string(&path).map_err(|_| {
        Exit::unreachable(format!("nothing has run in {}: begin with `pinwheel up`", caller.data.display()))
    })?;
    let damaged = |_| Exit::unreachable(format!("{} holds no address", path.display()));
    text.trim().parse().map_err(damaged)
}

fn exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Unreachable(_) | ClientError::Deadline => Exit::unreachable(error),
        _ => Exit::no(error),
    }
}

/// The slip as a till prints it.
fn receipt(entry: Option<&CatalogueEntry>, terminal: TerminalId, id: SaleId, sold: &Sold) -> String {
    let rule = format!("  {}\n", "-".repeat(SLIP_CHARS));
    let centred = |text: &str| format!("  {text:^SLIP_CHARS$}").trim_end().to_owned() + "\n";
    let mut text = format!("\n{rule}");
    if let Some(entry) = entry {
        let price = crate::registry::price(entry.face_value, entry.currency_digits, &ascii(&entry.currency));
        text.push_str(&centred(&decoded(entry.name.as_bytes(), entry.charset)));
        text.push_str(&centred(&price));
    }
    text.push('\n');
    text.push_str(&centred(&grouped(&ascii(sold.pin.as_bytes()))));
    text.push('\n');
    let pin_id = PinId(sold.reference);
    let mut rows = vec![("Serial", ascii(sold.serial.as_bytes()))];
    rows.extend(valid_to(sold.expiry).map(|day| ("Valid to", day)));
    rows.push(("Reference", format!("{}-{}", pin_id.block().0, pin_id.index())));
    rows.push(("Sale", format!("{}/{}/{}", id.seller.0, terminal.0, id.sequence)));
    if sold.copy > 0 {
        rows.push(("Copy", sold.copy.to_string()));
    }
    for (name, value) in rows {
        let width = SLIP_CHARS - 10;
        text.push_str(&format!("  {name:<10}{value:>width$}\n"));
    }
    if let Some(entry) = entry.filter(|entry| !entry.receipt.as_bytes().is_empty()) {
        text.push('\n');
        for line in decoded(entry.receipt.as_bytes(), entry.charset).lines() {
            text.push_str(&centred(line));
        }
    }
    text.push_str(&rule);
    text.push('\n');
    text
}

/// Groups of four, as people read numbers out.
fn grouped(pin: &str) -> String {
    if pin.contains('-') {
        return pin.to_owned();
    }
    let characters: Vec<char> = pin.chars().collect();
    let groups: Vec<String> = characters.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join(" ")
}

fn ascii(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn decoded(bytes: &[u8], charset: Charset) -> String {
    match charset {
        Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Charset::Ascii | Charset::Utf8 | Charset::Cp1256 => ascii(bytes),
    }
}

const SLIP_CHARS: usize = 38;

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{SellerId, Text};

    #[test]
    fn a_receipt_shows_everything_a_customer_needs() {
        let sold = Sold {
            sequence: 7,
            reference: PinId::new(crate::ids::BlockId(3), 9).0,
            copy: 0,
            expiry: 20_271_231,
            pin: Text::new(b"1234567890123456").unwrap(),
            serial: Text::new(b"P00000100000001").unwrap(),
        };
        let entry = CatalogueEntry {
            product: 1,
            face_value: 1000,
            currency: *b"ZAR",
            currency_digits: 2,
            name: Text::new(b"Blue Cell airtime").unwrap(),
            receipt: Text::new(b"Dial *100*PIN#\nThank you").unwrap(),
            ..CatalogueEntry::EMPTY
        };
        let id = SaleId { seller: SellerId(1), sequence: 7 };
        let text = receipt(Some(&entry), TerminalId(5), id, &sold);
        for part in [
            "Blue Cell airtime",
            "10.00 ZAR",
            "1234 5678 9012 3456",
            "2027-12-31",
            "3-9",
            "1/5/7",
            "Thank you",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= SLIP_CHARS + 2));
    }
}
