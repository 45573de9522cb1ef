//! Where an element stands: <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.

use std::fmt;

use crate::definitions::Definitions;

/// An element and the way to it, as FHIRPath.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    name: &'p str,
    /// The element in the standard: `Patient.name`, `HumanName.given`; for a resource its type.
    path: &'p str,
    /// The type of a choice element.
    choice: Option<&'p str>,
    index: Option<usize>,
    /// Elements above this one.
    pub depth: usize,
}

impl<'p> Place<'p> {
    pub fn root(name: &'p str) -> Place<'p> {
        Place { parent: None, name, path: name, choice: None, index: None, depth: 0 }
    }

    /// The start of a look of its own, with `depth` elements above it.
    pub fn below(name: &'p str, depth: usize) -> Place<'p> {
        Place { depth, ..Place::root(name) }
    }

    pub fn child(&'p self, name: &'p str) -> Place<'p> {
        let depth = self.depth + 1;
        Place { parent: Some(self), name, path: "", choice: None, index: None, depth }
    }

    /// The same as this element of the standard, or as a resource of this type.
    pub fn of(self, path: &'p str) -> Place<'p> {
        Place { path, ..self }
    }

    /// The element in the standard.
    pub fn path(&self) -> &'p str {
        self.path
    }

    /// Whether it is the element that a path means, from a type above it (`Patient.name.given`,
    /// `DomainResource.text`).
    pub fn is_element(&self, wanted: &str, definitions: &Definitions) -> bool {
        if self.path == wanted {
            return true;
        }
        let Some((rest, last)) = wanted.rsplit_once('.') else {
            return !self.path.contains('.') && definitions.is_a(self.path, wanted);
        };
        let last = last.strip_suffix("[x]").unwrap_or(last);
        last == self.name && self.parent.is_some_and(|parent| parent.is_element(rest, definitions))
    }

    /// The same as the choice element of this type.
    pub fn choice(self, of_type: &'p str) -> Place<'p> {
        Place { choice: Some(of_type), ..self }
    }

    /// The same as one item of a list.
    pub fn item(self, index: usize) -> Place<'p> {
        Place { index: Some(index), ..self }
    }

    /// The name of the element that holds this one.
    pub fn parent_name(&self) -> Option<&'p str> {
        self.parent.map(|parent| parent.name)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain: Vec<&Place> =
            std::iter::successors(Some(self), |place| place.parent).collect();
        chain.reverse();
        for (position, place) in chain.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            f.write_str(place.name)?;
            if let Some(choice) = place.choice {
                write!(f, ".ofType({choice})")?;
            }
            if let Some(index) = place.index {
                write!(f, "[{index}]")?;
            }
        }
        Ok(())
    }
}
