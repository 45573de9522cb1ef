//! Keys as the index holds them.

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
