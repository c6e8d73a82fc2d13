//! Issuing PINs of our own.

use super::fingerprint::{Fingerprinter, What};
use super::sealing::seal;
use super::{Delivery, DeliveryError, DeliveryOrder, Item, Progress, Step, Tools, claims_of, repeated};
use crate::disk::Disk;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wire::message::{PIN_BYTES_MAX, Pin, SERIAL_BYTES_MAX, Serial};

/// What the PINs of one issue look like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// How many, at most [`MINT_PINS_MAX`].
    pub count: u32,
    /// Characters of a PIN, the check character included; at most 26.
    pub length: u8,
    /// What they are drawn from.
    pub alphabet: Alphabet,
    /// Whether the last character is a check character: Luhn for digits, Luhn mod N for letters.
    pub check: bool,
    /// What every serial begins with: `[0-9A-Za-z]*`.
    pub serial_prefix: String,
    /// The counter in the first serial; the others follow.
    pub serial_first: u64,
    /// Digits of the counter, filled with zeros.
    pub serial_digits: u8,
}

/// The characters of a PIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alphabet {
    /// 0 to 9.
    Digits,
    /// 2 to 9 and A to Z without I, L and O: nothing that looks like something else.
    Letters,
}

impl Alphabet {
    fn characters(self) -> &'static [u8] {
        match self {
            Self::Digits => b"0123456789",
            Self::Letters => b"23456789ABCDEFGHJKMNPQRSTUVWXYZ",
        }
    }
}

/// Issues PINs, refusing what was ever seen before, and seals them into blocks. Everything random follows from the order's
/// seed. Nothing is in stock until the caller has committed the delivery; a delivery that is dropped leaves files that
/// nobody names, and claims that do not count.
///
/// # Errors
/// [`MintError`].
pub fn mint<D: Disk>(
    order: &DeliveryOrder,
    recipe: &Recipe,
    tools: &mut Tools<'_, D>,
) -> Result<Delivery, MintError> {
    recipe.check().map_err(|what| MintError::Recipe { what })?;
    let mut random = ChaCha20Rng::from_seed(order.seed);
    let mut draw = Draw::new(recipe, &mut random);
    let mut items = Vec::with_capacity(recipe.count as usize);
    for number in 0..recipe.count {
        let (pin, serial) = (draw.pin(), recipe.serial(number));
        items.push(Item { pin, serial, line: number, expiry: order.expiry });
    }
    (tools.progress)(Progress {
        step: Step::Read,
        done: u64::from(recipe.count),
        total: u64::from(recipe.count),
    });
    let fingerprinter = Fingerprinter::new(tools.keys.fingerprints());
    for _ in 0..ROUNDS_MAX {
        let claims = claims_of(&items, &fingerprinter);
        let mut again: Vec<(u32, What)> =
            repeated(&claims).map(|(claim, _)| (claim.line, claim.what)).collect();
        if again.is_empty() {
            let seen = tools.claim(order.batch, &claims)?;
            again.extend(seen.iter().map(|seen| (seen.line, seen.what)));
        }
        if again.is_empty() {
            drop(claims);
            return Ok(seal(order, items, &mut random, tools)?);
        }
        if let Some(&(number, _)) = again.iter().find(|(_, what)| *what == What::Serial) {
            return Err(MintError::SerialSeen { counter: recipe.serial_first + u64::from(number) });
        }
        let mut draw = Draw::new(recipe, &mut random);
        for (number, _) in again {
            items[number as usize].pin = draw.pin();
        }
    }
    Err(MintError::Exhausted)
}

/// Why no PINs were issued.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The recipe cannot be followed.
    #[error("the PINs cannot be issued: {what}")]
    Recipe {
        /// Why.
        what: &'static str,
    },
    /// A serial was issued before.
    #[error(
        "the serial with counter {counter} was seen before: begin with a higher one, or use another prefix"
    )]
    SerialSeen {
        /// The counter of the first such serial.
        counter: u64,
    },
    /// Drawing again and again met only PINs that were seen before.
    #[error("too many PINs of this length and alphabet were issued already: use longer ones")]
    Exhausted,
    /// They could not be stored.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

impl Recipe {
    /// Whether it can be followed; if not, why not.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let refuse = Err;
        let drawn = u32::from(self.length).saturating_sub(u32::from(self.check));
        if self.count == 0 || self.count > MINT_PINS_MAX {
            return refuse("between 1 and 2,000,000 at a time");
        }
        if drawn == 0 || usize::from(self.length) > PIN_BYTES_MAX {
            return refuse("a PIN has at most 26 characters, and at least one beside the check character");
        }
        let space = (self.alphabet.characters().len() as u128).checked_pow(drawn).unwrap_or(u128::MAX);
        if space / SPACE_PER_PIN < u128::from(self.count) {
            return refuse(
                "so many PINs that short could be guessed: there must be a thousand possible ones for each",
            );
        }
        if !self.serial_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return refuse("a serial's prefix consists of 0-9, A-Z and a-z");
        }
        let digits = usize::from(self.serial_digits);
        if digits == 0 || self.serial_prefix.len() + digits > SERIAL_BYTES_MAX {
            return refuse("a serial has at most 20 characters, and at least one digit after its prefix");
        }
        let last = self.serial_first.checked_add(u64::from(self.count) - 1);
        let room = 10u64.checked_pow(u32::from(self.serial_digits));
        if last.is_none_or(|last| room.is_some_and(|room| last >= room)) {
            return refuse("the serials' counter does not fit its digits");
        }
        Ok(())
    }

    fn serial(&self, number: u32) -> Serial {
        let mut text = [b'0'; SERIAL_BYTES_MAX];
        let prefix = self.serial_prefix.as_bytes();
        let length = prefix.len() + usize::from(self.serial_digits);
        text[..prefix.len()].copy_from_slice(prefix);
        let mut counter = self.serial_first + u64::from(number);
        for digit in text[prefix.len()..length].iter_mut().rev() {
            *digit = b'0' + (counter % 10) as u8;
            counter /= 10;
        }
        Serial::new(&text[..length]).expect("the recipe was checked")
    }
}

/// Draws PINs, each character equally likely (Lemire, "Fast Random Integer Generation in an Interval", on bytes).
struct Draw<'a> {
    random: &'a mut ChaCha20Rng,
    characters: &'static [u8],
    /// How many bytes must not be used, or some characters would be likelier than others.
    unfair: u16,
    drawn: usize,
    check: bool,
    buffer: [u8; 256],
    used: usize,
}

impl<'a> Draw<'a> {
    fn new(recipe: &Recipe, random: &'a mut ChaCha20Rng) -> Self {
        let characters = recipe.alphabet.characters();
        Self {
            random,
            characters,
            unfair: (256 % characters.len()) as u16,
            drawn: usize::from(recipe.length) - usize::from(recipe.check),
            check: recipe.check,
            buffer: [0; 256],
            used: 256,
        }
    }

    fn pin(&mut self) -> Pin {
        let mut digits = [0; PIN_BYTES_MAX];
        let base = self.characters.len() as u8;
        for digit in &mut digits[..self.drawn] {
            *digit = loop {
                if self.used == self.buffer.len() {
                    self.random.fill_bytes(&mut self.buffer);
                    self.used = 0;
                }
                let product = u16::from(self.buffer[self.used]) * u16::from(base);
                self.used += 1;
                if product & 0xff >= self.unfair {
                    break (product >> 8) as u8;
                }
            };
        }
        let mut length = self.drawn;
        if self.check {
            digits[length] = check_digit(&digits[..length], base);
            length += 1;
        }
        let text = digits.map(|digit| self.characters[usize::from(digit)]);
        Pin::new(&text[..length]).expect("the recipe was checked")
    }
}

/// Luhn's check digit in base N.
fn check_digit(digits: &[u8], base: u8) -> u8 {
    let mut sum = 0u32;
    for (place, &digit) in digits.iter().rev().enumerate() {
        let weighted = if place.is_multiple_of(2) { 2 * digit } else { digit };
        sum += u32::from(if weighted >= base { weighted - base + 1 } else { weighted });
    }
    let base = u32::from(base);
    ((base - sum % base) % base) as u8
}

/// Most PINs issued at a time: a bound on memory.
pub const MINT_PINS_MAX: u32 = 2_000_000;
/// Possible PINs for each that is issued.
const SPACE_PER_PIN: u128 = 1000;
/// How often what was seen before is drawn again.
const ROUNDS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::tests::{Bench, order};
    use std::collections::HashSet;

    fn recipe() -> Recipe {
        Recipe {
            count: 1000,
            length: 16,
            alphabet: Alphabet::Digits,
            check: true,
            serial_prefix: "PW".to_owned(),
            serial_first: 5,
            serial_digits: 8,
        }
    }

    #[test]
    fn issued_pins_are_sealed_unique_and_checkable() {
        let bench = Bench::default();
        let delivery = mint(&order(), &recipe(), &mut bench.tools(&mut |_| {})).unwrap();
        assert_eq!(delivery.received, 1000);
        let issued = bench.opened(&delivery);
        let pins: HashSet<_> = issued.iter().map(|(pin, _)| pin.clone()).collect();
        assert_eq!(pins.len(), 1000);
        for (pin, _) in &issued {
            assert_eq!(pin.len(), 16);
            let digits: Vec<u8> = pin.iter().map(|byte| byte - b'0').collect();
            assert_eq!(digits[15], check_digit(&digits[..15], 10));
        }
        assert_eq!(issued[0].1, b"PW00000005");
        assert_eq!(issued[999].1, b"PW00001004");
    }

    #[test]
    fn the_check_digit_is_luhns() {
        assert_eq!(check_digit(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1], 10), 3);
        assert_eq!(check_digit(&[0; 5], 10), 0);
    }

    #[test]
    fn every_character_is_drawn_about_equally_often() {
        let mut recipe = Recipe { alphabet: Alphabet::Letters, check: false, ..recipe() };
        for alphabet in [Alphabet::Digits, Alphabet::Letters] {
            recipe.alphabet = alphabet;
            let mut random = ChaCha20Rng::from_seed([1; 32]);
            let mut draw = Draw::new(&recipe, &mut random);
            let mut counts = [0u32; 256];
            for _ in 0..10_000 {
                draw.pin().as_bytes().iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            }
            let expected = 160_000 / alphabet.characters().len() as u32;
            for &character in alphabet.characters() {
                let count = counts[usize::from(character)];
                assert!(count.abs_diff(expected) < expected / 10, "{count} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_pin_seen_before_is_drawn_again() {
        // 10,000 possible PINs: several in ten of the second issue were in the first.
        let bench = Bench::default();
        let small = Recipe { count: 10, length: 4, check: false, ..recipe() };
        let mut seen = HashSet::new();
        for issue in 0..200 {
            let order = DeliveryOrder {
                batch: crate::ids::BatchId(issue),
                blocks: issue..issue + 1,
                seed: [issue as u8; 32],
                ..order()
            };
            let recipe = Recipe { serial_first: issue * 10, ..small.clone() };
            let delivery = mint(&order, &recipe, &mut bench.tools(&mut |_| {})).unwrap();
            for (pin, _) in bench.opened(&delivery) {
                assert!(seen.insert(pin), "issued twice");
            }
        }
        assert_eq!(seen.len(), 2000);
    }

    #[test]
    fn a_serial_seen_before_is_refused() {
        let bench = Bench::default();
        mint(&order(), &recipe(), &mut bench.tools(&mut |_| {})).unwrap();
        let next = DeliveryOrder { batch: crate::ids::BatchId(9), seed: [9; 32], ..order() };
        let overlapping = Recipe { serial_first: 1004, ..recipe() };
        let error = mint(&next, &overlapping, &mut bench.tools(&mut |_| {})).unwrap_err();
        assert!(matches!(error, MintError::SerialSeen { counter: 1004 }));
    }

    #[test]
    fn a_recipe_that_could_be_guessed_or_does_not_fit_is_refused() {
        let bench = Bench::default();
        for wrong in [
            Recipe { count: 0, ..recipe() },
            Recipe { count: MINT_PINS_MAX + 1, ..recipe() },
            Recipe { length: 27, ..recipe() },
            Recipe { length: 1, ..recipe() },
            Recipe { length: 6, ..recipe() },
            Recipe { serial_prefix: "P-".to_owned(), ..recipe() },
            Recipe { serial_digits: 19, ..recipe() },
            Recipe { serial_digits: 0, ..recipe() },
            Recipe { serial_digits: 3, serial_first: 1, ..recipe() },
            Recipe { serial_first: u64::MAX, serial_digits: 18, ..recipe() },
        ] {
            let refused = mint(&order(), &wrong, &mut bench.tools(&mut |_| {}));
            assert!(matches!(refused, Err(MintError::Recipe { .. })), "{wrong:?}");
        }
    }
}
