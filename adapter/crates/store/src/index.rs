//! Keys and numbers as the index holds them.

use std::borrow::Cow;

/// Greatest length of a stored key, in bytes. PostgreSQL refuses index rows of about 2,700, and
/// short keys keep the index small.
pub(crate) const LONGEST: usize = 400;

/// Length of the hash at the end of a key that was cut.
const HASH: usize = 16;

/// How much of a long key is kept before the hash.
pub(crate) const KEPT: usize = LONGEST - HASH;

/// The key as it is stored and compared: a NUL, which PostgreSQL cannot hold, becomes U+FFFD; the
/// end of a long key is replaced by a hash, so that equal keys stay equal and different keys stay
/// different, and order holds for the part before it.
pub(crate) fn fit(key: &str) -> Cow<'_, str> {
    let key = if key.contains('\0') {
        Cow::Owned(key.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(key)
    };
    if key.len() <= LONGEST {
        return key;
    }
    let kept = &key[..key.floor_char_boundary(KEPT)];
    Cow::Owned(format!("{kept}{:016x}", hash(key.as_bytes())))
}

/// FNV-1a, 64 bits: <https://www.rfc-editor.org/rfc/rfc9923>. Stored, so it must never change.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A number as an integer in the same order, which is how SQLite keeps it: no text that SQLite
/// reads gives back every number as it was. Stored, so it must never change.
pub(crate) fn order(number: f64) -> i64 {
    let size = (number.to_bits() & !SIGN).cast_signed();
    if number.is_sign_negative() { -size } else { size }
}

/// The number that [`order`] made an integer of; zero has no sign.
pub(crate) fn number(order: i64) -> f64 {
    let size = f64::from_bits(order.unsigned_abs() & !SIGN);
    if order < 0 { -size } else { size }
}

/// The bit of a number that is its sign.
const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::{number, order};

    #[test]
    fn integers_have_the_order_of_the_numbers() {
        let infinite = f64::INFINITY;
        let numbers = [
            -infinite,
            f64::MIN,
            -1e-211,
            -5e-324,
            0.0,
            5e-324,
            2.2e-308,
            0.1,
            0.3,
            0.1 + 0.2,
            1.0,
            1e23,
            f64::MAX,
            infinite,
        ];
        assert!(numbers.is_sorted_by(|one, two| order(*one) < order(*two)));
        for one in numbers {
            assert_eq!(number(order(one)).to_bits(), one.to_bits());
        }
        assert_eq!(order(-0.0), order(0.0));
        assert!(order(f64::NAN) > order(infinite));
    }
}
