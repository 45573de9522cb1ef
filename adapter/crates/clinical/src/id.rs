//! Ids of derived resources: UUID version 5, <https://www.rfc-editor.org/rfc/rfc9562#section-5.5>.
//!
//! The same source gives the same id on every machine, so deriving again updates and never
//! duplicates.

use uuid::Uuid;

/// The namespace of derived ids: the UUIDv5 of `https://lumbar.example/fhir` in RFC 9562's
/// namespace for URLs, `a72215db-f851-55fa-a809-00eb490c2264`.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xa72215db_f851_55fa_a809_00eb490c2264);

/// The id of what follows from `parts`, which are joined with `|`: a character that no resource id
/// may hold, so different parts never meet in one id.
pub fn derived(parts: &[&str]) -> String {
    Uuid::new_v5(&NAMESPACE, parts.join("|").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_the_stated_one() {
        let stated = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://lumbar.example/fhir");
        assert_eq!(NAMESPACE, stated);
    }
}
