//! What was meant instead: the nearest of the texts that would be right, for
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.diagnostics>.

/// Longest text for which others are looked for, in bytes.
const MAX_BYTES: usize = 64;
/// Most texts that are compared.
const MAX_COMPARED: usize = 5_000;

/// The text that differs from `text` the least: in case only, or in one or two characters (one or
/// none, if it is short) that are left out, added, changed or swapped with their neighbour.
pub(crate) fn nearest<'t>(text: &str, others: impl Iterator<Item = &'t str>) -> Option<&'t str> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return None;
    }
    let wanted: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let limit = match wanted.len() {
        0..3 => 0,
        3..5 => 1,
        _ => 2,
    };
    let mut best: Option<(usize, &str)> = None;
    for other in others.take(MAX_COMPARED).filter(|other| other.len() <= 2 * MAX_BYTES) {
        let chars: Vec<char> = other.chars().flat_map(char::to_lowercase).collect();
        let most = best.map_or(limit + 1, |(distance, _)| distance);
        if chars.len().abs_diff(wanted.len()) >= most {
            continue;
        }
        let distance = distance(&wanted, &chars);
        if distance < most {
            best = Some((distance, other));
        }
    }
    best.map(|(_, other)| other)
}

/// The number of characters to leave out, add, change or swap.
fn distance(one: &[char], two: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=two.len()).collect();
    for (row, a) in one.iter().enumerate() {
        let mut current = Vec::with_capacity(above.len());
        current.push(row + 1);
        for (column, b) in two.iter().enumerate() {
            let at =
                |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX / 2);
            let mut least = (at(&above, column) + usize::from(a != b))
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            let is_swap = row > 0
                && column > 0
                && one.get(row - 1) == Some(b)
                && two.get(column - 1) == Some(a);
            if is_swap {
                least = least.min(at(&before, column - 1) + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_nothing_that_is_far() {
        let codes = ["male", "female", "other", "unknown"];
        for (text, expected) in [
            ("Male", Some("male")),
            ("mael", Some("male")),
            ("femail", Some("female")),
            ("unknwon", Some("unknown")),
            ("m", None),
            ("x", None),
            ("", None),
            ("completely different", None),
        ] {
            assert_eq!(nearest(text, codes.into_iter()), expected, "{text}");
        }
        assert_eq!(nearest("b", ["a", "c"].into_iter()), None);
        assert_eq!(nearest(&"x".repeat(100), ["x"].into_iter()), None);
        assert_eq!(distance(&['a', 'b'], &['b', 'a']), 1);
        assert_eq!(distance(&[], &['b', 'a']), 2);
    }
}
