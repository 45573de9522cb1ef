//! Units of quantities: the part of <https://ucum.org/ucum> that clinical data use.
//!
//! Units are brought to base units by exact factors, degrees Celsius and Fahrenheit by their zero,
//! too. Other special units (logarithms) and arbitrary ones (international units) are not
//! converted; quantities with them compare only with the same unit.

use rust_decimal::Decimal;

use super::value::Quantity;

/// Exponents of metre, second, gram, radian, kelvin, coulomb, candela, mole and calendar month.
pub(super) type Dimension = [i8; 9];

const NONE: Dimension = [0; 9];
const LENGTH: Dimension = [1, 0, 0, 0, 0, 0, 0, 0, 0];
const TIME: Dimension = [0, 1, 0, 0, 0, 0, 0, 0, 0];
const MASS: Dimension = [0, 0, 1, 0, 0, 0, 0, 0, 0];
const VOLUME: Dimension = [3, 0, 0, 0, 0, 0, 0, 0, 0];
const PRESSURE: Dimension = [-1, -2, 1, 0, 0, 0, 0, 0, 0];
const ENERGY: Dimension = [2, -2, 1, 0, 0, 0, 0, 0, 0];

/// Code, factor to base units as digits and power of ten, dimension, whether prefixes apply.
const ATOMS: [(&str, i64, i32, Dimension, bool); 52] = [
    ("m", 1, 0, LENGTH, true),
    ("s", 1, 0, TIME, true),
    ("g", 1, 0, MASS, true),
    ("rad", 1, 0, [0, 0, 0, 1, 0, 0, 0, 0, 0], true),
    ("K", 1, 0, [0, 0, 0, 0, 1, 0, 0, 0, 0], true),
    ("C", 1, 0, [0, 0, 0, 0, 0, 1, 0, 0, 0], true),
    ("cd", 1, 0, [0, 0, 0, 0, 0, 0, 1, 0, 0], true),
    ("mol", 1, 0, [0, 0, 0, 0, 0, 0, 0, 1, 0], true),
    ("L", 1, -3, VOLUME, true),
    ("l", 1, -3, VOLUME, true),
    ("ar", 100, 0, [2, 0, 0, 0, 0, 0, 0, 0, 0], true),
    ("t", 1, 6, MASS, true),
    ("Hz", 1, 0, [0, -1, 0, 0, 0, 0, 0, 0, 0], true),
    ("Bq", 1, 0, [0, -1, 0, 0, 0, 0, 0, 0, 0], true),
    ("N", 1000, 0, [1, -2, 1, 0, 0, 0, 0, 0, 0], true),
    ("Pa", 1000, 0, PRESSURE, true),
    ("bar", 1, 8, PRESSURE, true),
    ("m[Hg]", 133_322, 3, PRESSURE, true),
    ("m[H2O]", 980_665, 1, PRESSURE, true),
    ("J", 1000, 0, ENERGY, true),
    ("cal", 4184, 0, ENERGY, true),
    ("[Cal]", 4_184_000, 0, ENERGY, false),
    ("W", 1000, 0, [2, -3, 1, 0, 0, 0, 0, 0, 0], true),
    ("A", 1, 0, [0, -1, 0, 0, 0, 1, 0, 0, 0], true),
    ("V", 1000, 0, [2, -2, 1, 0, 0, -1, 0, 0, 0], true),
    ("Ohm", 1000, 0, [2, -1, 1, 0, 0, -2, 0, 0, 0], true),
    ("Gy", 1, 0, [2, -2, 0, 0, 0, 0, 0, 0, 0], true),
    ("Sv", 1, 0, [2, -2, 0, 0, 0, 0, 0, 0, 0], true),
    ("eq", 1, 0, [0, 0, 0, 0, 0, 0, 0, 1, 0], true),
    ("kat", 1, 0, [0, -1, 0, 0, 0, 0, 0, 1, 0], true),
    ("min", 60, 0, TIME, false),
    ("h", 3600, 0, TIME, false),
    ("d", 86_400, 0, TIME, false),
    ("wk", 604_800, 0, TIME, false),
    ("mo", 2_629_800, 0, TIME, false),
    ("a", 31_557_600, 0, TIME, false),
    ("10*", 10, 0, NONE, false),
    ("10^", 10, 0, NONE, false),
    ("%", 1, -2, NONE, false),
    ("[ppth]", 1, -3, NONE, false),
    ("[ppm]", 1, -6, NONE, false),
    ("[in_i]", 254, -4, LENGTH, false),
    ("[ft_i]", 3048, -4, LENGTH, false),
    ("[yd_i]", 9144, -4, LENGTH, false),
    ("[mi_i]", 1_609_344, -3, LENGTH, false),
    ("[lb_av]", 45_359_237, -5, MASS, false),
    ("[oz_av]", 28_349_523_125, -9, MASS, false),
    ("[stone_av]", 635_029_318, -5, MASS, false),
    ("[foz_us]", 295_735_295_625, -16, VOLUME, false),
    ("[pt_br]", 56_826_125, -11, VOLUME, false),
    ("year", 12, 0, [0, 0, 0, 0, 0, 0, 0, 0, 1], false),
    ("month", 1, 0, [0, 0, 0, 0, 0, 0, 0, 0, 1], false),
];

const KELVIN: Dimension = [0, 0, 0, 0, 1, 0, 0, 0, 0];

/// Temperatures whose zero is not that of kelvin: code, distance to absolute zero in hundredths,
/// and kelvin per degree as a fraction.
const DEGREES: [(&str, i64, i64, i64); 2] = [("Cel", 27_315, 1, 1), ("[degF]", 45_967, 5, 9)];

const PREFIXES: [(&str, i32); 16] = [
    ("da", 1),
    ("h", 2),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
    ("d", -1),
    ("c", -2),
    ("m", -3),
    ("u", -6),
    ("n", -9),
    ("p", -12),
    ("f", -15),
    ("a", -18),
];

/// The UCUM code that is as long as a calendar unit, or nearly so for months and years.
pub(super) fn calendar_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "year" | "years" => "a",
        "month" | "months" => "mo",
        "week" | "weeks" => "wk",
        "day" | "days" => "d",
        "hour" | "hours" => "h",
        "minute" | "minutes" => "min",
        "second" | "seconds" => "s",
        "millisecond" | "milliseconds" => "ms",
        _ => return None,
    })
}

/// The calendar unit that a unit stands for in date arithmetic; UCUM's month and year stand for
/// none, because they have a length in seconds.
pub(super) fn calendar_of(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "year" | "years" => "year",
        "month" | "months" => "month",
        "week" | "weeks" | "wk" => "week",
        "day" | "days" | "d" => "day",
        "hour" | "hours" | "h" => "hour",
        "minute" | "minutes" | "min" => "minute",
        "second" | "seconds" | "s" => "second",
        "millisecond" | "milliseconds" | "ms" => "millisecond",
        _ => return None,
    })
}

/// Distance to absolute zero, and kelvin per degree, for a temperature scale with its own zero.
fn degrees(unit: &str) -> Option<(Decimal, Decimal, Decimal)> {
    let (_, zero, up, down) = DEGREES.iter().find(|(code, ..)| *code == unit)?;
    Some((Decimal::new(*zero, 2), Decimal::from(*up), Decimal::from(*down)))
}

/// Whether amounts of the unit cannot be added to those of another.
pub(super) fn has_own_zero(unit: &str) -> bool {
    degrees(unit).is_some()
}

/// The amount in base units, and their dimension.
pub(super) fn base(quantity: &Quantity) -> Option<(Decimal, Dimension)> {
    if let Some((zero, up, down)) = degrees(&quantity.unit) {
        let kelvin = quantity.value.checked_add(zero)?.checked_mul(up)?.checked_div(down)?;
        return Some((kelvin.normalize(), KELVIN));
    }
    let scale = scale(&quantity.unit)?;
    Some((quantity.value.checked_mul(scale.factor)?.normalize(), scale.dimension))
}

/// What a unit is in base units, and a text that is the same for all units that measure the same
/// (`m-1.s-2.g` for a pressure, `1` for a number).
pub(crate) fn canonical(unit: &str) -> Option<(Decimal, String)> {
    const NAMES: [&str; 9] = ["m", "s", "g", "rad", "K", "C", "cd", "mol", "month"];
    let scale = scale(unit)?;
    let parts = NAMES.iter().zip(scale.dimension).filter(|(_, exponent)| *exponent != 0);
    let parts: Vec<String> = parts
        .map(|(name, exponent)| match exponent {
            1 => (*name).to_string(),
            exponent => format!("{name}{exponent}"),
        })
        .collect();
    let dimension = if parts.is_empty() { "1".to_string() } else { parts.join(".") };
    (!scale.factor.is_zero()).then_some((scale.factor, dimension))
}

/// The amount in another unit.
pub(super) fn convert(quantity: &Quantity, unit: &str) -> Option<Decimal> {
    if let Some((zero, up, down)) = degrees(unit) {
        let (kelvin, _) = base(quantity).filter(|(_, dimension)| *dimension == KELVIN)?;
        return kelvin.checked_mul(down)?.checked_div(up)?.checked_sub(zero);
    }
    let (amount, dimension) = base(quantity)?;
    let to = scale(unit).filter(|to| to.dimension == dimension)?;
    amount.checked_div(to.factor)
}

/// Whether two units measure the same.
pub(super) fn comparable(one: &str, two: &str) -> bool {
    let dimension = |unit: &str| match degrees(unit) {
        Some(_) => Some(KELVIN),
        None => scale(unit).map(|scale| scale.dimension),
    };
    one == two || dimension(one).is_some_and(|one| Some(one) == dimension(two))
}

/// The unit of a product or quotient; `1` when the units cancel out.
pub(super) fn combine(one: &str, operator: char, two: &str) -> String {
    match (one, two) {
        (one, "1") => return one.to_string(),
        ("1", two) if operator == '.' => return two.to_string(),
        (one, two) if one == two && operator == '/' => return "1".to_string(),
        _ => {}
    }
    let part = |unit: &str| match unit.contains(['.', '/']) {
        true => format!("({unit})"),
        false => unit.to_string(),
    };
    format!("{}{operator}{}", part(one), part(two))
}

#[derive(Clone, Copy)]
struct Scale {
    factor: Decimal,
    dimension: Dimension,
}

/// Deepest nesting of brackets in a unit.
const MAX_DEPTH: usize = 8;

fn scale(unit: &str) -> Option<Scale> {
    if let Some(calendar) = calendar_unit(unit).filter(|code| !matches!(*code, "a" | "mo")) {
        return atom(calendar);
    }
    let unit = match unit {
        "years" => "year",
        "months" => "month",
        other => other,
    };
    let mut rest = unit;
    let scale = term(&mut rest, 0)?;
    rest.is_empty().then_some(scale)
}

/// `component { ('.' | '/') component }`.
fn term(rest: &mut &str, depth: usize) -> Option<Scale> {
    if depth > MAX_DEPTH {
        return None;
    }
    let one = Scale { factor: Decimal::ONE, dimension: NONE };
    let mut product = match rest.starts_with('/') {
        true => one,
        false => component(rest, depth)?,
    };
    while let Some(operator @ ('.' | '/')) = rest.chars().next() {
        *rest = &rest[1..];
        let sign = if operator == '.' { 1 } else { -1 };
        product = times(product, component(rest, depth)?, sign)?;
    }
    Some(product)
}

fn component(rest: &mut &str, depth: usize) -> Option<Scale> {
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner;
        let scale = term(rest, depth + 1)?;
        *rest = rest.strip_prefix(')')?;
        return Some(scale);
    }
    let end = symbol_end(rest);
    let (symbol, after) = rest.split_at(end);
    *rest = after;
    let symbol = match symbol.split_once('{') {
        Some((symbol, annotation)) if annotation.ends_with('}') => symbol,
        Some(_) => return None,
        None => symbol,
    };
    if symbol.is_empty() {
        return Some(Scale { factor: Decimal::ONE, dimension: NONE });
    }
    if symbol.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Scale { factor: symbol.parse().ok()?, dimension: NONE });
    }
    let digits = symbol.len()
        - symbol
            .bytes()
            .rev()
            .take_while(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'))
            .count();
    let (name, exponent) = symbol.split_at(digits);
    let exponent: i32 = if exponent.is_empty() { 1 } else { exponent.parse().ok()? };
    let unit = atom(name)?;
    let mut power = Scale { factor: Decimal::ONE, dimension: NONE };
    for _ in 0..exponent.unsigned_abs().min(100) {
        power = times(power, unit, exponent.signum())?;
    }
    Some(power)
}

/// Where a simple unit ends; what stands in brackets belongs to it.
fn symbol_end(text: &str) -> usize {
    let mut closing = None;
    for (at, c) in text.char_indices() {
        match (closing, c) {
            (Some(close), c) if close == c => closing = None,
            (Some(_), _) => {}
            (None, '[') => closing = Some(']'),
            (None, '{') => closing = Some('}'),
            (None, '.' | '/' | '(' | ')') => return at,
            _ => {}
        }
    }
    text.len()
}

fn atom(name: &str) -> Option<Scale> {
    if let Some((_, digits, power, dimension, _)) = ATOMS.iter().find(|(code, ..)| *code == name) {
        return Some(Scale {
            factor: shift(Decimal::from(*digits), *power)?,
            dimension: *dimension,
        });
    }
    PREFIXES.iter().find_map(|(prefix, prefix_power)| {
        let rest = name.strip_prefix(prefix)?;
        let (_, digits, power, dimension, _) =
            ATOMS.iter().find(|(code, .., metric)| *metric && *code == rest)?;
        let factor = shift(Decimal::from(*digits), power + prefix_power)?;
        Some(Scale { factor, dimension: *dimension })
    })
}

fn shift(value: Decimal, power: i32) -> Option<Decimal> {
    let ten = Decimal::TEN;
    (0..power.unsigned_abs()).try_fold(value, |value, _| match power > 0 {
        true => value.checked_mul(ten),
        false => value.checked_div(ten),
    })
}

fn times(one: Scale, two: Scale, sign: i32) -> Option<Scale> {
    let factor = match sign < 0 {
        true => one.factor.checked_div(two.factor)?,
        false => one.factor.checked_mul(two.factor)?,
    };
    let mut dimension = one.dimension;
    for (sum, exponent) in dimension.iter_mut().zip(two.dimension) {
        *sum = match sign < 0 {
            true => sum.checked_sub(exponent)?,
            false => sum.checked_add(exponent)?,
        };
    }
    Some(Scale { factor, dimension })
}
