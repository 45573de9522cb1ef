//! The grammar of FHIRPath: <https://hl7.org/fhirpath/N1/grammar.html>.
//!
//! Precedence climbing; a chain `a.b.c` and a union `a | b | c` are one node each, so that long
//! ones cost no depth.

use std::sync::OnceLock;

use rust_decimal::Decimal;

use super::PathError;
use super::expr::{
    Chain, Expr, Literal, Name, Operator, Step, StepKind, TypeName, TypeTest, Variable,
};
use super::functions;
use super::lexer::{self, Kind, Token, unescape};
use super::memo::Memo;
use super::temporal::Temporal;
use crate::IssueType;

/// Deepest nesting of an expression, in the text and in the tree.
pub const MAX_DEPTH: usize = 128;
/// Longest expression that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// Spelling and strength; a stronger operator binds its operands first.
const OPERATORS: [(&str, Operator, u8); 24] = [
    ("*", Operator::Multiply, 9),
    ("/", Operator::Divide, 9),
    ("div", Operator::Div, 9),
    ("mod", Operator::Mod, 9),
    ("+", Operator::Add, 8),
    ("-", Operator::Subtract, 8),
    ("&", Operator::Concatenate, 8),
    ("is", Operator::Is, 7),
    ("as", Operator::As, 7),
    ("|", Operator::Union, UNION_STRENGTH),
    ("<", Operator::Less, 5),
    ("<=", Operator::LessOrEqual, 5),
    (">", Operator::Greater, 5),
    (">=", Operator::GreaterOrEqual, 5),
    ("=", Operator::Equal, 4),
    ("!=", Operator::NotEqual, 4),
    ("~", Operator::Equivalent, 4),
    ("!~", Operator::NotEquivalent, 4),
    ("in", Operator::In, 3),
    ("contains", Operator::Contains, 3),
    ("and", Operator::And, 2),
    ("or", Operator::Or, 1),
    ("xor", Operator::Xor, 1),
    ("implies", Operator::Implies, 0),
];
const UNION_STRENGTH: u8 = 6;

const CALENDAR_UNITS: [&str; 8] =
    ["year", "month", "week", "day", "hour", "minute", "second", "millisecond"];

/// Reads a whole expression.
pub(crate) fn parse(text: &str) -> Result<Expr, PathError> {
    if text.len() > MAX_LENGTH {
        let reason = format!("the expression is longer than {MAX_LENGTH} bytes");
        return Err(PathError { limit: Some(IssueType::TooLong), ..PathError::new(reason) });
    }
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let (expr, _) = parser.expression(0)?;
    match parser.peek().kind {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end was expected")),
    }
}

/// The branches of a union `a | b | c` that is the whole expression, each with the name it begins
/// with; one branch if it is no union.
pub(crate) fn branches(text: &str) -> Result<Vec<(Option<&str>, &str)>, PathError> {
    let tokens = lexer::tokens(text)?;
    let mut cuts = vec![0];
    let mut depth = 0_usize;
    for token in &tokens {
        match (token.kind, token.text) {
            (Kind::Symbol, "(" | "[" | "{") => depth += 1,
            (Kind::Symbol, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (Kind::Symbol | Kind::Name, _) if depth == 0 => match operator(token) {
                Some((Operator::Union, _)) => cuts.push(token.end),
                Some((_, strength)) if strength < UNION_STRENGTH => {
                    cuts.truncate(1);
                    break;
                }
                _ => {}
            },
            _ => {}
        }
    }
    cuts.push(text.len() + 1);
    let branch = |from: usize, to: usize| {
        let first = tokens.iter().find(|token| token.start >= from && token.text != "(")?;
        let name = matches!(first.kind, Kind::Name | Kind::Delimited).then_some(first.text);
        Some((name, text.get(from..to - 1)?.trim()))
    };
    Ok(cuts.windows(2).filter_map(|cut| branch(cut[0], cut[1])).collect())
}

fn operator(token: &Token) -> Option<(Operator, u8)> {
    if !matches!(token.kind, Kind::Name | Kind::Symbol) {
        return None;
    }
    let (_, operator, strength) = OPERATORS.iter().find(|(text, ..)| *text == token.text)?;
    Some((*operator, *strength))
}

struct Parser<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
    depth: usize,
}

/// An expression and its height.
type Parsed = (Expr, usize);

impl<'t> Parser<'t> {
    fn expression(&mut self, weakest: u8) -> Result<Parsed, PathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let (mut left, mut height) = self.term()?;
        while let Some((operator, strength)) = operator(self.peek()) {
            if strength < weakest {
                break;
            }
            let at = self.peek().start;
            self.at += 1;
            if matches!(operator, Operator::Is | Operator::As) {
                let name = self.type_name()?;
                left = match operator {
                    Operator::Is => Expr::Is(Box::new(left), name),
                    _ => Expr::As(Box::new(left), name),
                };
                height += 1;
            } else {
                let (right, right_height) = self.expression(strength + 1)?;
                (left, height) = match (operator, left) {
                    (Operator::Union, Expr::Union(mut branches)) => {
                        branches.push(right);
                        (Expr::Union(branches), height.max(right_height + 1))
                    }
                    (Operator::Union, left) => {
                        (Expr::Union(vec![left, right]), height.max(right_height) + 1)
                    }
                    (Operator::In, left)
                        if let Expr::Union(texts) = &right
                            && all_texts(texts) =>
                    {
                        let node = Expr::Among(Box::new(left), texts.clone(), at);
                        (node, height.max(right_height) + 1)
                    }
                    (operator, left) => {
                        let node = Expr::Binary(operator, Box::new(left), Box::new(right), at);
                        (node, height.max(right_height) + 1)
                    }
                };
            }
            if height > MAX_DEPTH {
                return Err(self.too_deep());
            }
        }
        self.depth -= 1;
        Ok((left, height))
    }

    fn term(&mut self) -> Result<Parsed, PathError> {
        let token = *self.peek();
        if token.kind == Kind::Symbol && matches!(token.text, "-" | "+") {
            self.at += 1;
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.too_deep());
            }
            let (operand, height) = self.term()?;
            self.depth -= 1;
            let operand = Box::new(operand);
            let node =
                if token.text == "-" { Expr::Negative(operand) } else { Expr::Positive(operand) };
            return Ok((node, height + 1));
        }
        let mut steps: Vec<Step> = Vec::new();
        let mut inner = 0;
        // Variables live until the end of the chain, each in a frame of its own.
        let mut defined = 0;
        let (base, base_height) = match token.kind {
            Kind::Name if matches!(token.text, "true" | "false") && !self.call_follows() => {
                self.at += 1;
                (Expr::Boolean(token.text == "true"), 0)
            }
            Kind::Name | Kind::Delimited => {
                inner = self.invocation(true, &mut steps)?;
                (Expr::This, 0)
            }
            _ => self.primary()?,
        };
        loop {
            let at = self.peek().start;
            if self.eat(".") {
                inner = inner.max(self.invocation(false, &mut steps)?);
            } else if self.eat("[") {
                let (index, height) = self.expression(0)?;
                self.expect("]")?;
                inner = inner.max(height);
                steps.push(Step { at, kind: StepKind::Item(index) });
            } else if steps.is_empty() {
                return Ok((base, base_height));
            } else {
                let height = base_height.max(inner + defined) + 1;
                if height > MAX_DEPTH {
                    return Err(self.too_deep());
                }
                let resolves = |step: &Step| matches!(step.kind, StepKind::Function(function, _) if function.resolves());
                let resolves = steps.iter().any(resolves);
                let chain = Chain { base: Box::new(base), steps, resolves };
                return Ok((Expr::Chain(chain), height));
            }
            defined += match steps.last() {
                Some(Step { kind: StepKind::Define(_), .. }) => 1,
                _ => 0,
            };
            if defined > MAX_DEPTH {
                return Err(self.too_deep());
            }
        }
    }

    /// A name or a function call, and how high its arguments are.
    fn invocation(&mut self, first: bool, steps: &mut Vec<Step>) -> Result<usize, PathError> {
        let token = *self.peek();
        let at = token.start;
        if token.kind == Kind::Special && !first {
            return Err(self.unexpected("a name was expected after the point"));
        }
        let text = self.name()?;
        if !self.eat("(") {
            let is_type = first && text.starts_with(|c: char| c.is_ascii_uppercase());
            let name = Name { text, memo: Memo::default() };
            let kind = if is_type { StepKind::First(name) } else { StepKind::Member(name) };
            steps.push(Step { at, kind });
            return Ok(0);
        }
        let mut arguments = Vec::new();
        let mut height = 0;
        if !self.eat(")") {
            loop {
                let (argument, inner) = self.expression(0)?;
                height = height.max(inner + 1);
                arguments.push(argument);
                if self.eat(")") {
                    break;
                }
                self.expect(",")?;
            }
        }
        call(&text, at, arguments, steps)?;
        Ok(height)
    }

    fn primary(&mut self) -> Result<Parsed, PathError> {
        let token = *self.peek();
        self.at += 1;
        let expr = match (token.kind, token.text) {
            (Kind::String, _) => {
                Expr::String(Literal { text: unescape(&token)?, pattern: OnceLock::new() })
            }
            (Kind::Integer | Kind::Decimal, _) => self.number(&token)?,
            (Kind::Temporal, text) => temporal(text)
                .ok_or_else(|| PathError::at("this is no date or time", token.start))?,
            (Kind::Variable, _) => Expr::Variable(Variable::named(unescape(&token)?), token.start),
            (Kind::Special, "this") => Expr::This,
            (Kind::Special, "index") => Expr::Index,
            (Kind::Special, "total") => Expr::Total,
            (Kind::Symbol, "{") => {
                self.expect("}")?;
                Expr::Empty
            }
            (Kind::Symbol, "(") => {
                let parsed = self.expression(0)?;
                self.expect(")")?;
                return Ok(parsed);
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected("a value or a name was expected"));
            }
        };
        Ok((expr, 0))
    }

    /// A number, or a quantity if a unit follows.
    fn number(&mut self, token: &Token) -> Result<Expr, PathError> {
        let too_large = || PathError::at("the number is too large", token.start);
        let next = *self.peek();
        let unit = match next.kind {
            Kind::String => Some(unescape(&next)?),
            Kind::Name => {
                let singular = next.text.strip_suffix('s').unwrap_or(next.text);
                CALENDAR_UNITS.contains(&singular).then(|| singular.to_string())
            }
            _ => None,
        };
        if let Some(unit) = unit {
            self.at += 1;
            let value = Decimal::from_str_exact(token.text).map_err(|_| too_large())?;
            return Ok(Expr::Quantity(value, unit));
        }
        if token.kind == Kind::Integer {
            return token.text.parse().map(Expr::Integer).map_err(|_| too_large());
        }
        Decimal::from_str_exact(token.text).map(Expr::Decimal).map_err(|_| too_large())
    }

    fn type_name(&mut self) -> Result<TypeName, PathError> {
        let at = self.peek().start;
        let name = self.name()?;
        let (namespace, name) = match self.eat(".") {
            true => (Some(name), self.name()?),
            false => (None, name),
        };
        Ok(TypeName { namespace, name, memo: Memo::default(), at })
    }

    fn name(&mut self) -> Result<String, PathError> {
        let token = *self.peek();
        let name = match token.kind {
            Kind::Name => token.text.to_string(),
            Kind::Delimited => unescape(&token)?,
            _ => return Err(self.unexpected("a name was expected")),
        };
        self.at += 1;
        Ok(name)
    }

    fn call_follows(&self) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|token| is_symbol(token, "("))
    }

    fn peek(&self) -> &Token<'t> {
        // The last token is End and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = is_symbol(self.peek(), symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), PathError> {
        if self.eat(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("\"{symbol}\" was expected")))
    }

    fn unexpected(&self, reason: &str) -> PathError {
        PathError::at(reason, self.peek().start)
    }

    fn too_deep(&self) -> PathError {
        let reason = format!("the expression is nested deeper than {MAX_DEPTH} levels");
        PathError { limit: Some(IssueType::TooCostly), ..self.unexpected(&reason) }
    }
}

/// Functions of FHIRPath's environments that need the definition of the element at hand, or make
/// resources.
const UNSUPPORTED: [&str; 2] = ["elementDefinition", "slice"];

/// Adds the call of a function.
fn call(
    name: &str,
    at: usize,
    mut arguments: Vec<Expr>,
    steps: &mut Vec<Step>,
) -> Result<(), PathError> {
    let count = arguments.len();
    let wrong_count = || PathError::at(format!("{name}() does not take {count} arguments"), at);
    let test = match name {
        "is" => Some(TypeTest::Is),
        "as" => Some(TypeTest::As),
        "ofType" => Some(TypeTest::OfType),
        _ => None,
    };
    if let Some(test) = test {
        let [argument] = arguments.as_slice() else { return Err(wrong_count()) };
        let name = TypeName::of(argument, at)
            .ok_or_else(|| PathError::at(format!("{name}() needs the name of a type"), at))?;
        steps.push(Step { at, kind: StepKind::Type(test, name) });
        return Ok(());
    }
    if name == "defineVariable" {
        if !(1..=2).contains(&count) {
            return Err(wrong_count());
        }
        steps.push(Step { at, kind: StepKind::Define(arguments) });
        return Ok(());
    }
    let Some(function) = functions::find(name) else {
        let reason = match UNSUPPORTED.contains(&name) {
            true => format!("the function {name}() is not supported"),
            false => format!("there is no function {name}()"),
        };
        return Err(PathError::at(reason, at));
    };
    if !function.takes(count) {
        return Err(wrong_count());
    }
    // `where(c).exists()` is `exists(c)`, which ends with the first item that fits.
    if matches!(name, "exists" | "empty")
        && arguments.is_empty()
        && let Some(Step { kind: StepKind::Function(last, _), .. }) = steps.last()
        && last.name() == "where"
        && let (Some(exists), Some(not)) = (functions::find("exists"), functions::find("not"))
        && let Some(Step { at: before, kind: StepKind::Function(_, criteria) }) = steps.pop()
    {
        arguments = criteria;
        steps.push(Step { at: before, kind: StepKind::Function(exists, arguments) });
        if name == "empty" {
            steps.push(Step { at, kind: StepKind::Function(not, Vec::new()) });
        }
        return Ok(());
    }
    steps.push(Step { at, kind: StepKind::Function(function, arguments) });
    Ok(())
}

fn all_texts(branches: &[Expr]) -> bool {
    branches.iter().all(|branch| matches!(branch, Expr::String(_)))
}

fn is_symbol(token: &Token, symbol: &str) -> bool {
    token.kind == Kind::Symbol && token.text == symbol
}

fn temporal(text: &str) -> Option<Expr> {
    match text.split_once('T') {
        Some(("", time)) => Temporal::parse_time(time).map(Expr::Time),
        Some(_) => Temporal::parse_date_time(text).map(Expr::DateTime),
        None => Temporal::parse_date(text).map(Expr::Date),
    }
}
