//! Where an element stands: <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.

use std::fmt;

/// An element and the way to it, as FHIRPath.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    name: &'p str,
    /// The type of a choice element.
    choice: Option<&'p str>,
    index: Option<usize>,
    /// Elements above this one.
    pub depth: usize,
}

impl<'p> Place<'p> {
    pub fn root(name: &'p str) -> Place<'p> {
        Place { parent: None, name, choice: None, index: None, depth: 0 }
    }

    pub fn child(&'p self, name: &'p str) -> Place<'p> {
        Place { parent: Some(self), name, choice: None, index: None, depth: self.depth + 1 }
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
