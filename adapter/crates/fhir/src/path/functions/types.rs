//! <https://hl7.org/fhirpath/N1/#types> and <https://hl7.org/fhir/R4/fhirpath.html#types>.

use std::borrow::Cow;

use super::{Evaluated, Function, row};
use crate::definitions::{Definitions, Kind, Type};
use crate::path::PathError;
use crate::path::eval::{Items, Scope};
use crate::path::expr::TypeName;
use crate::path::navigate;
use crate::path::operators;
use crate::path::value::{Node, Typing, Value};

pub(super) static FUNCTIONS: &[Function] = &[row("type", (0, 0), |call| {
    Ok(call.focus.iter().map(|item| type_info(call.scope, item)).collect())
})];

const SYSTEM: [&str; 9] =
    ["Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity", "Any"];

/// Whether the one item has the type or one derived from it.
pub(in crate::path) fn is<'a>(
    scope: &Scope<'_, 'a>,
    items: &[Value<'a>],
    name: &TypeName,
) -> Evaluated<'a> {
    let target = Target::find(scope.context.definitions, name)?;
    let item = operators::single(items)?;
    Ok(item.map(|item| Value::Boolean(target.covers(item, true))).into_iter().collect())
}

/// The items that have the type or one derived from it; of primitives those with exactly the type,
/// so that `ofType(string)` leaves a `code` out.
///
/// N1 asks `as` to refuse several items. R4's own search parameters and invariants use it on
/// several, as `ofType`.
pub(in crate::path) fn of_type<'a>(
    scope: &Scope<'_, 'a>,
    mut items: Items<'a>,
    name: &TypeName,
) -> Evaluated<'a> {
    let target = Target::find(scope.context.definitions, name)?;
    let derived = target.fhir.is_none_or(|kind| kind.kind != Kind::Primitive);
    items.retain(|item| target.covers(item, derived));
    Ok(items)
}

/// Whether a specifier means a type at all.
pub(in crate::path) fn is_known(definitions: &Definitions, name: &TypeName) -> bool {
    Target::find(definitions, name).is_ok()
}

/// The type that a specifier means: without a namespace it can be FHIR's and FHIRPath's own.
struct Target<'n, 'a> {
    name: &'n str,
    fhir: Option<&'a Type>,
    is_system: bool,
    definitions: &'a Definitions,
}

impl<'n, 'a> Target<'n, 'a> {
    fn find(definitions: &'a Definitions, specifier: &'n TypeName) -> Result<Self, PathError> {
        let name = specifier.name.as_str();
        let namespace = specifier.namespace.as_deref();
        let fhir = match namespace {
            Some("System") => None,
            _ => specifier.memo.kind(definitions, name),
        };
        // `System.Patient` is a name like any other, of a type that nothing has.
        let is_system = match namespace {
            None => SYSTEM.contains(&name),
            Some(namespace) => namespace == "System",
        };
        if fhir.is_none() && !is_system {
            return Err(PathError::new(format!("there is no type {name}")));
        }
        Ok(Target { name, fhir, is_system, definitions })
    }

    fn covers(&self, item: &Value, derived: bool) -> bool {
        if let Value::Node(node) = item
            && let Typing::Known(kind) | Typing::Unresolved(kind) =
                navigate::typing(self.definitions, node)
        {
            return match (self.fhir, derived) {
                (Some(target), true) => self.definitions.derives(kind, target.name),
                (Some(target), false) => kind.name == target.name,
                (None, _) => false,
            };
        }
        let own = item.type_name().strip_prefix("System.");
        self.is_system && own.is_some_and(|own| own == self.name || self.name == "Any")
    }
}

/// Whether a chain that begins with `name` means the (resolved) item itself: `Patient.name` on a
/// Patient.
pub(in crate::path) fn is_named(definitions: &Definitions, item: &Value, name: &str) -> bool {
    if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
        return false;
    }
    match item {
        Value::Node(Node { typing: Typing::Known(kind), .. }) => definitions.derives(kind, name),
        _ => false,
    }
}

fn type_info<'a>(scope: &Scope<'_, 'a>, item: &Value<'a>) -> Value<'a> {
    if let Value::Node(node) = item
        && let Typing::Known(_) = navigate::typing(scope.context.definitions, node)
    {
        return Value::Type { namespace: "FHIR", name: Cow::Borrowed(item.type_name()) };
    }
    let own = item.type_name();
    match own.strip_prefix("System.") {
        Some(name) => Value::Type { namespace: "System", name: Cow::Borrowed(name) },
        None => Value::Type { namespace: "FHIR", name: Cow::Borrowed(own) },
    }
}
