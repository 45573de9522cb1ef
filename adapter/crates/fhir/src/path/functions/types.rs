//! <https://hl7.org/fhirpath/N1/#types> and <https://hl7.org/fhir/R4/fhirpath.html#types>.

use std::borrow::Cow;

use super::{Call, Evaluated, Function, row};
use crate::path::eval::Scope;
use crate::path::navigate;
use crate::path::operators;
use crate::path::parser::TypeName;
use crate::path::value::{Node, Typing, Value};
use crate::path::PathError;

pub(super) static FUNCTIONS: &[Function] = &[
    row("is", (1, 1), |call| {
        let (namespace, name) = specifier(call)?;
        is(call.scope, call.focus, namespace, name)
    }),
    row("as", (1, 1), |call| {
        let (namespace, name) = specifier(call)?;
        of_type(call.scope, call.focus, namespace, name)
    }),
    row("ofType", (1, 1), |call| {
        let (namespace, name) = specifier(call)?;
        of_type(call.scope, call.focus, namespace, name)
    }),
    row("type", (0, 0), |call| {
        Ok(call.focus.iter().map(|item| type_info(call.scope, item)).collect())
    }),
];

const SYSTEM: [&str; 9] = [
    "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity", "Any",
];

/// The type that an argument names; it is read, not evaluated.
fn specifier<'a>(call: &Call<'_, 'a>) -> Result<(Option<&'a str>, &'a str), PathError> {
    let name = call.arguments.first().and_then(TypeName::of);
    name.ok_or_else(|| PathError::new("the name of a type is needed here"))
}

/// Whether the one item has the type or one derived from it.
pub(in crate::path) fn is<'a>(
    scope: &Scope<'_, 'a>,
    items: &[Value<'a>],
    namespace: Option<&str>,
    name: &str,
) -> Evaluated<'a> {
    known(scope, namespace, name)?;
    let Some(item) = operators::single(items)? else { return Ok(Vec::new()) };
    Ok(vec![Value::Boolean(has_type(scope, item, namespace, name, true))])
}

/// The items that have exactly the type, or for an abstract one a type derived from it.
///
/// N1 asks `as` to refuse several items. R4's own search parameters and invariants use it on
/// several, as `ofType`, and so does everybody.
pub(in crate::path) fn of_type<'a>(
    scope: &Scope<'_, 'a>,
    items: &[Value<'a>],
    namespace: Option<&str>,
    name: &str,
) -> Evaluated<'a> {
    known(scope, namespace, name)?;
    let is_abstract = scope.context.definitions.type_of(name).is_some_and(|kind| kind.is_abstract);
    let kept = |item: &&Value<'a>| has_type(scope, item, namespace, name, is_abstract);
    Ok(items.iter().filter(kept).cloned().collect())
}

fn known(scope: &Scope, namespace: Option<&str>, name: &str) -> Result<(), PathError> {
    let system = namespace != Some("FHIR") && SYSTEM.contains(&name);
    let fhir = namespace != Some("System") && scope.context.definitions.type_of(name).is_some();
    // `System.Patient` is a name like any other, of a type that nothing has.
    if system || fhir || matches!(namespace, Some("System")) {
        return Ok(());
    }
    Err(PathError::new(format!("there is no type {name}")))
}

fn has_type(
    scope: &Scope,
    item: &Value,
    namespace: Option<&str>,
    name: &str,
    derived: bool,
) -> bool {
    let definitions = scope.context.definitions;
    if let Value::Node(node) = item {
        if let Typing::Known(kind) | Typing::Unresolved(kind) =
            navigate::typing(definitions, node)
        {
            return namespace != Some("System")
                && (kind.name == name
                    || item.type_name() == name
                    || (derived && definitions.derives(kind, name)));
        }
    }
    let own = item.type_name();
    match own.strip_prefix("System.") {
        Some(own) => namespace != Some("FHIR") && (own == name || (derived && name == "Any")),
        None => own == name,
    }
}

/// Whether a chain that begins with `name` means the (resolved) item itself: `Patient.name` on a
/// Patient.
pub(in crate::path) fn is_named(
    definitions: &crate::definitions::Definitions,
    item: &Value,
    name: &str,
) -> bool {
    if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
        return false;
    }
    match item {
        Value::Node(Node { typing: Typing::Known(kind), .. }) => definitions.derives(kind, name),
        _ => false,
    }
}

fn type_info<'a>(scope: &Scope<'_, 'a>, item: &Value<'a>) -> Value<'a> {
    if let Value::Node(node) = item {
        if let Typing::Known(_) = navigate::typing(scope.context.definitions, node) {
            return Value::Type { namespace: "FHIR", name: Cow::Borrowed(item.type_name()) };
        }
    }
    let own = item.type_name();
    match own.strip_prefix("System.") {
        Some(name) => Value::Type { namespace: "System", name: Cow::Borrowed(name) },
        None => Value::Type { namespace: "FHIR", name: Cow::Borrowed(own) },
    }
}
