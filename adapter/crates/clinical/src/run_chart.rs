//! Run charts: whether a series of monthly values changed by more than chance.
//!
//! Two sets of rules stand side by side: runs and trends of fixed length (six and five), and those
//! of Anhøj and Olesen, PLoS One 2014;9:e113825, which follow from the number of useful points.

use lumbar_fhir::{Json, Object, json};
use rust_decimal::Decimal;

use crate::score::number;

/// Points on one side of the median that are a shift.
const SHIFT: usize = 6;
/// Rising or falling points that are a trend.
const TREND: usize = 5;
/// Fewest points for any signal, and fewest useful points for the rules of Anhøj and Olesen.
const ENOUGH: usize = 10;

/// What a series shows.
#[derive(Clone, Debug, PartialEq)]
pub struct RunChart {
    /// The median of the series or of its first points; `None` of no points.
    pub median: Option<Decimal>,
    /// Points that are not on the median.
    pub useful: usize,
    /// Most useful points in a row on one side.
    pub longest_run: usize,
    /// Most points in a row that rise or fall, equal ones skipped.
    pub longest_trend: usize,
    /// How often the useful points change the side.
    pub crossings: usize,
    /// `None` with too few useful points.
    pub anhoej: Option<Anhoej>,
    /// With fewer points no signal is shown.
    pub enough_points: bool,
}

/// The limits that follow from the number of useful points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anhoej {
    /// A longer run is a signal.
    pub max_run: usize,
    /// Fewer crossings are a signal.
    pub min_crossings: usize,
    /// Whether there is one.
    pub signal: bool,
}

impl RunChart {
    /// Looks at `values`, gaps left out; the median is that of the first `baseline` of them, when
    /// that is stated.
    pub fn of(values: &[Decimal], baseline: Option<usize>) -> RunChart {
        let first = baseline.filter(|count| *count > 0).and_then(|count| values.get(..count));
        let median = median(first.unwrap_or(values));
        let sides: Vec<bool> = values
            .iter()
            .filter(|value| Some(**value) != median)
            .map(|value| median.is_some_and(|median| *value > median))
            .collect();
        let crossings = sides.windows(2).filter(|pair| pair.first() != pair.last()).count();
        let longest_run = longest(&sides, |one, other| one == other);
        let useful = sides.len();
        let anhoej = (useful >= ENOUGH).then(|| {
            let (max_run, min_crossings) = (max_run(useful), min_crossings(useful - 1));
            let signal = longest_run > max_run || crossings < min_crossings;
            Anhoej { max_run, min_crossings, signal }
        });
        let mut steps: Vec<Decimal> = values.to_vec();
        steps.dedup();
        let rises: Vec<bool> = steps.windows(2).map(|pair| pair.first() < pair.last()).collect();
        let longest_trend = match steps.len() {
            0 => 0,
            // The point where it turns belongs to the trend.
            _ => longest(&rises, |one, other| one == other) + 1,
        };
        RunChart {
            median,
            useful,
            longest_run,
            longest_trend,
            crossings,
            anhoej,
            enough_points: values.len() >= ENOUGH,
        }
    }

    /// As an object, with `shiftSignal` and `trendSignal`.
    pub fn to_json(&self) -> Json {
        let mut result = Object::new();
        result.set("median", self.median.map_or(Json::Null, number));
        result.set("useful", self.useful);
        result.set("longestRun", self.longest_run);
        result.set("longestTrend", self.longest_trend);
        result.set("crossings", self.crossings);
        result.set("shiftSignal", self.longest_run >= SHIFT);
        result.set("trendSignal", self.longest_trend >= TREND);
        let anhoej = self.anhoej.map(|limits| {
            json!({"maxRun": (limits.max_run), "minCrossings": (limits.min_crossings),
                "signal": (limits.signal)})
        });
        result.set("anhoej", anhoej.unwrap_or(Json::Null));
        result.set("enoughPoints", self.enough_points);
        Json::Object(result)
    }
}

fn median(values: &[Decimal]) -> Option<Decimal> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let value = match sorted.len() % 2 {
        0 => (*sorted.get(middle.checked_sub(1)?)? + upper) / Decimal::TWO,
        _ => upper,
    };
    Some(value.normalize())
}

/// Most neighbours in a row that are alike.
fn longest<T>(values: &[T], alike: impl Fn(&T, &T) -> bool) -> usize {
    values.chunk_by(|one, other| alike(one, other)).map(<[T]>::len).max().unwrap_or(0)
}

/// The rounded binary logarithm plus 3. It is never half way between two whole numbers.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number of points"
)]
fn max_run(useful: usize) -> usize {
    ((useful as f64).log2() + 3.0).round() as usize
}

/// The least number of heads of `tosses` whose probability, with that of all below it, is 5 percent.
#[expect(clippy::cast_precision_loss, reason = "a small number of points")]
fn min_crossings(tosses: usize) -> usize {
    // Logarithms, as the probability of no head at all is too small for a number.
    let mut log_chance = -(tosses as f64) * std::f64::consts::LN_2;
    let mut total = 0.0;
    for heads in 0..=tosses {
        total += log_chance.exp();
        if total >= 0.05 {
            return heads;
        }
        log_chance += ((tosses - heads) as f64 / (heads + 1) as f64).ln();
    }
    tosses
}
