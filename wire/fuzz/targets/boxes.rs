//! The box in which a PIN comes back through another seller: bytes as a box, and a box with a byte changed.

use wire::codec::decode_reply;
use wire::message::{Reply, SellerId};
use wire::session::Suite;
use wire::settlement::SoldBox;

/// A place, a mask, and then a *sold* in inner form, or any bytes.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(sealed) = SoldBox::from_bytes(bytes) {
        assert_eq!(sealed.as_bytes(), bytes);
        for suite in SUITES {
            assert!(sealed.open(&KEY, suite, SELLER, 1).is_err(), "nobody sealed it");
        }
    }
    let [place, mask, inner @ ..] = bytes else { return };
    let Ok((_, Reply::Sold(sold))) = decode_reply(inner) else { return };
    for suite in SUITES {
        let sealed = SoldBox::seal(&KEY, suite, SELLER, &sold);
        assert_eq!(sealed.open(&KEY, suite, SELLER, sold.sequence), Ok(sold));
        assert!(sealed.open(&KEY, suite, SELLER, sold.sequence ^ 1).is_err(), "of another sequence");
        let mut changed = sealed.as_bytes().to_vec();
        let at = usize::from(*place) % changed.len();
        changed[at] ^= mask;
        let changed = SoldBox::from_bytes(&changed).expect("it has its length");
        assert_eq!(changed.open(&KEY, suite, SELLER, sold.sequence).is_ok(), *mask == 0);
    }
}

const SELLER: SellerId = SellerId(9);
const KEY: [u8; 32] = [5; 32];
const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];
