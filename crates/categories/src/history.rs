//! A catalogue together with the events that led to it: what replaying the log computes.

use std::collections::BTreeSet;

use crate::calibration::Calibration;
use crate::catalogue::Catalogue;
use crate::category::{Category, CategoryId};
use crate::error::{CategoryError, invalid};
use crate::event::{Entry, Event};

/// A catalogue, its log, and what can be undone and redone.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct History {
    catalogue: Catalogue,
    log: Vec<Entry>,
    /// Edits in effect, oldest first.
    done: Vec<Done>,
    /// Edits taken back that no other edit followed, oldest undo first.
    undone: Vec<Undone>,
}

/// An edit in effect and what it replaced.
#[derive(Clone, PartialEq, Debug)]
struct Done {
    /// Revision of the edit itself, not of a redo.
    revision: u64,
    before: Vec<Category>,
    calibration: Option<Calibration>,
    model_sha256: String,
}

/// An edit taken back.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Undone {
    /// Revision of the edit.
    edit: u64,
    /// Revision of the undo.
    undo: u64,
}

/// The outcome of an entry, not yet part of the history.
pub(crate) struct Next {
    catalogue: Catalogue,
    change: Change,
}

enum Change {
    Edit(Done),
    Undo(Undone),
    Redo(Done),
}

impl History {
    /// Begins with the first entry of a log.
    ///
    /// # Errors
    /// Another event than `Created`, another revision than 1, or a catalogue that breaks a rule.
    pub(crate) fn begin(first: Entry) -> Result<Self, CategoryError> {
        let Event::Created { catalogue } = &first.event else {
            return Err(invalid(
                "event",
                "`created` on the first line",
                "another event",
            ));
        };
        for (field, found) in [
            ("revision", first.revision),
            ("catalogue.revision", catalogue.revision),
        ] {
            if found != 1 {
                return Err(invalid(field, "1 on the first line", found));
            }
        }
        catalogue.check()?;
        Ok(Self {
            catalogue: catalogue.clone(),
            log: vec![first],
            done: Vec::new(),
            undone: Vec::new(),
        })
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(crate) fn log(&self) -> &[Entry] {
        &self.log
    }

    pub(crate) fn into_parts(self) -> (Catalogue, Vec<Entry>) {
        (self.catalogue, self.log)
    }

    /// The event that takes back the last edit in effect.
    pub(crate) fn undo(&self) -> Result<Event, CategoryError> {
        let last = self.done.last().ok_or(CategoryError::NothingToUndo)?;
        Ok(Event::Undone {
            revision: last.revision,
        })
    }

    /// The event that takes back the last undo.
    pub(crate) fn redo(&self) -> Result<Event, CategoryError> {
        let last = self.undone.last().ok_or(CategoryError::NothingToRedo)?;
        Ok(Event::Undone {
            revision: last.undo,
        })
    }

    /// What an entry makes of the catalogue.
    ///
    /// # Errors
    /// The entry cannot follow.
    pub(crate) fn next(&self, entry: &Entry) -> Result<Next, CategoryError> {
        let revision = self.catalogue.revision + 1;
        if entry.revision != revision {
            return Err(invalid("revision", revision.to_string(), entry.revision));
        }
        let mut catalogue = self.catalogue.clone();
        catalogue.revision = revision;
        let change = match &entry.event {
            Event::Created { .. } => {
                return Err(invalid(
                    "event",
                    "`created` on the first line only",
                    "it again",
                ));
            }
            Event::Undone { revision: target } => {
                let edit = self.done.last().filter(|done| done.revision == *target);
                let undo = self.undone.last().filter(|undone| undone.undo == *target);
                match (edit, undo) {
                    (Some(done), _) => {
                        self.take_back(done, &mut catalogue)?;
                        Change::Undo(Undone {
                            edit: done.revision,
                            undo: revision,
                        })
                    }
                    (None, Some(undone)) => {
                        let event = self.event(undone.edit)?;
                        let done = self.done(undone.edit, event);
                        event.apply(&mut catalogue, true)?;
                        Change::Redo(done)
                    }
                    (None, None) => {
                        let expected = "the last edit in effect or the last undo";
                        return Err(invalid("undone.revision", expected, target));
                    }
                }
            }
            event => {
                let done = self.done(revision, event);
                event.apply(&mut catalogue, false)?;
                Change::Edit(done)
            }
        };
        Ok(Next { catalogue, change })
    }

    /// Makes an outcome of [`next`](Self::next) part of the history.
    pub(crate) fn push(&mut self, entry: Entry, next: Next) {
        self.catalogue = next.catalogue;
        self.log.push(entry);
        match next.change {
            Change::Edit(done) => {
                self.done.push(done);
                self.undone.clear();
            }
            Change::Undo(undone) => {
                self.done.pop();
                self.undone.push(undone);
            }
            Change::Redo(done) => {
                self.undone.pop();
                self.done.push(done);
            }
        }
    }

    /// What an event is about to replace.
    fn done(&self, revision: u64, event: &Event) -> Done {
        let touched = event.touched();
        Done {
            revision,
            before: touched
                .iter()
                .filter_map(|id| self.catalogue.get(*id))
                .cloned()
                .collect(),
            calibration: self.catalogue.calibration.clone(),
            model_sha256: self.catalogue.model_sha256.clone(),
        }
    }

    fn event(&self, revision: u64) -> Result<&Event, CategoryError> {
        usize::try_from(revision)
            .ok()
            .and_then(|line| self.log.get(line.checked_sub(1)?))
            .map(|entry| &entry.event)
            .ok_or_else(|| invalid("undone.revision", "a revision of the log", revision))
    }

    /// Restores what an edit replaced and retires what came with it.
    fn take_back(&self, done: &Done, catalogue: &mut Catalogue) -> Result<(), CategoryError> {
        let event = self.event(done.revision)?;
        let mut moved: BTreeSet<CategoryId> = BTreeSet::new();
        for before in &done.before {
            if let Some(at) = catalogue.position(before.id) {
                catalogue.categories[at] = before.clone();
                moved.insert(before.id);
            }
        }
        for id in event.born() {
            if let Some(at) = catalogue.position(id) {
                catalogue.categories[at].status = event.fate();
                moved.insert(id);
            }
        }
        catalogue.calibration.clone_from(&done.calibration);
        catalogue.model_sha256.clone_from(&done.model_sha256);
        // Coarse classes that came with the edit stay: its retired categories lie in them.
        catalogue.check()?;
        catalogue.refresh_nearest(&moved);
        Ok(())
    }
}
