//! The system texts of the calls: template files with the demonstrations as their only variable.
//!
//! `demos` is a list of objects with `source` and `target`. The syntax is Jinja's. A variable that
//! does not exist is an error with file and line, also in a branch that is not taken. White space
//! around the text and empty lines beyond one are removed, so that tags may stand on lines of their
//! own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior, context};
use thiserror::Error;

use super::demonstrations::Demonstration;
use super::pattern::Relation;

/// Functions of the template language, which are no variables.
const FUNCTIONS: [&str; 4] = ["range", "dict", "namespace", "debug"];

/// A prompt cannot be used.
#[derive(Debug, Error)]
pub enum PromptError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A `.txt` file in the folder that is no prompt.
    #[error("{}: no prompt has this name; known: {known}", path.display())]
    UnknownFile {
        /// The file.
        path: PathBuf,
        /// Names of prompts.
        known: String,
    },
    /// A file that is there already.
    #[error("{} exists; nothing was changed", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A template that cannot be rendered.
    #[error("{file}:{line}: {problem}")]
    Template {
        /// The file, or the name of a shipped prompt.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A template and the name that errors give it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    name: String,
    text: String,
}

/// Templates of all relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    sources: BTreeMap<Relation, Source>,
}

fn shipped(relation: Relation) -> &'static str {
    match relation {
        Relation::Entailment => include_str!("../../prompts/nli_entailment.txt"),
        Relation::Contradiction => include_str!("../../prompts/nli_contradiction.txt"),
        Relation::Positive => include_str!("../../prompts/sts_positive.txt"),
        Relation::Intermediate => include_str!("../../prompts/sts_intermediate.txt"),
        Relation::Negative => include_str!("../../prompts/sts_negative.txt"),
    }
}

impl Prompts {
    /// The prompts of this program.
    pub fn shipped() -> Self {
        let sources = Relation::ALL.map(|relation| {
            let (name, text) = (Self::file_name(relation), shipped(relation).to_owned());
            (relation, Source { name, text })
        });
        Self {
            sources: sources.into(),
        }
    }

    /// The shipped prompts, replaced by those that `folder` has a file of.
    ///
    /// # Errors
    /// [`PromptError`]: an unreadable folder or file, a `.txt` file of another name.
    pub fn from_folder(folder: &Path) -> Result<Self, PromptError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| PromptError::File {
                operation,
                path,
                source,
            }
        };
        let mut prompts = Self::shipped();
        let entries = std::fs::read_dir(folder).map_err(failed("list", folder))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed("list", folder))?;
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "txt") {
                continue;
            }
            let relation = Relation::ALL.into_iter().find(|relation| {
                path.file_name()
                    .is_some_and(|name| name == Self::file_name(*relation).as_str())
            });
            let Some(relation) = relation else {
                return Err(PromptError::UnknownFile {
                    path,
                    known: Relation::ALL.map(Self::file_name).join(", "),
                });
            };
            let text = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
            let name = path.display().to_string();
            prompts.sources.insert(relation, Source { name, text });
        }
        Ok(prompts)
    }

    /// Name of the file with the prompt of a relation, for instance `sts_positive.txt`.
    pub fn file_name(relation: Relation) -> String {
        format!("{}_{}.txt", relation.pattern().name(), relation.name())
    }

    /// Writes the templates into a folder, which is made if it does not exist, and gives their paths.
    ///
    /// # Errors
    /// [`PromptError`], for a file that exists as well.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, PromptError> {
        let failed = |operation, path: &Path, source| PromptError::File {
            operation,
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|e| failed("make the folder", folder, e))?;
        let paths: Vec<PathBuf> = self
            .sources
            .keys()
            .map(|relation| folder.join(Self::file_name(*relation)))
            .collect();
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            return Err(PromptError::Exists { path: path.clone() });
        }
        for (path, source) in paths.iter().zip(self.sources.values()) {
            std::fs::write(path, &source.text).map_err(|e| failed("write", path, e))?;
        }
        Ok(paths)
    }

    /// The system text of a relation with these demonstrations.
    ///
    /// # Errors
    /// [`PromptError::Template`].
    pub fn render(
        &self,
        relation: Relation,
        demonstrations: &[Demonstration],
    ) -> Result<String, PromptError> {
        let Some(source) = self.sources.get(&relation) else {
            return Ok(String::new());
        };
        let refuse = |line, problem| PromptError::Template {
            file: source.name.clone(),
            line,
            problem,
        };
        let failed = |error: minijinja::Error| {
            let detail = error
                .detail()
                .map_or_else(String::new, |d| format!(": {d}"));
            refuse(
                error.line().unwrap_or(1),
                format!("{}{detail}", error.kind()),
            )
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let template = environment
            .template_from_named_str(&source.name, &source.text)
            .map_err(failed)?;
        let mut unknown: Vec<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| name != "demos" && !FUNCTIONS.contains(&name.as_str()))
            .collect();
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(refuse(
                line_of(&source.text, name),
                format!(
                    "unknown variable `{name}`; there is `demos`, a list of objects with `source` \
                     and `target`"
                ),
            ));
        }
        let text = template
            .render(context! { demos => demonstrations })
            .map_err(failed)?;
        Ok(tidy(&text))
    }
}

/// The first line with this name within a tag.
fn line_of(text: &str, name: &str) -> usize {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut within = false;
    for (number, line) in (1..).zip(text.lines()) {
        let mut rest = line;
        // Pieces of the line, by turns outside and inside of tags.
        loop {
            let mark: &[&str] = if within { &["}}", "%}"] } else { &["{{", "{%"] };
            let end = mark.iter().filter_map(|mark| rest.find(mark)).min();
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if within && piece.split(|c| !is_name(c)).any(|word| word == name) {
                return number;
            }
            let Some(end) = end else { break };
            within = !within;
            rest = rest.get(end + 2..).unwrap_or_default();
        }
    }
    1
}

/// The text without spaces at the ends of lines, with at most one empty line at a time.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    for line in text.trim().lines() {
        if line.trim().is_empty() && tidy.ends_with("\n\n") {
            continue;
        }
        tidy.push_str(line.trim_end());
        tidy.push('\n');
    }
    tidy.truncate(tidy.trim_end().len());
    tidy
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::simulation::{Demonstrations, Pattern};

    fn demos(relation: Relation) -> Vec<Demonstration> {
        Demonstrations::bundled(relation.pattern())
            .of(relation)
            .to_vec()
    }

    fn own(text: &str) -> Result<String, PromptError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sts_positive.txt"), text).unwrap();
        Prompts::from_folder(dir.path())?.render(Relation::Positive, &demos(Relation::Positive))
    }

    #[test]
    fn shipped_prompts_show_their_demonstrations_under_the_labels_of_the_pattern() {
        for relation in Relation::ALL {
            let demos = demos(relation);
            let text = Prompts::shipped().render(relation, &demos).unwrap();
            let (one, other) = match relation.pattern() {
                Pattern::Nli => ("Premise", "Hypothesis"),
                Pattern::Sts => ("Sentence 1", "Sentence 2"),
            };
            for demo in &demos {
                let pair = format!("\n\n{one}: {}\n{other}: {}\n\n", demo.source, demo.target);
                assert!(text.contains(&pair), "{text}");
            }
            assert!(!text.contains("\n\n\n") && text.trim() == text, "{text:?}");
            assert!(
                text.lines()
                    .last()
                    .unwrap()
                    .starts_with("Reply with the new sentence only")
            );
        }
    }

    #[test]
    fn files_replace_shipped_prompts_one_by_one() {
        assert_eq!(own("Like {{ demos[1].target }}!\n").unwrap(), {
            let demos = demos(Relation::Positive);
            format!("Like {}!", demos[1].target)
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sts_negative.txt"), "Other.").unwrap();
        std::fs::write(dir.path().join("notes.md"), "{{").unwrap();
        let prompts = Prompts::from_folder(dir.path()).unwrap();
        assert_eq!(prompts.render(Relation::Negative, &[]).unwrap(), "Other.");
        let (relation, shipped) = (Relation::Positive, Prompts::shipped());
        assert_eq!(
            prompts.render(relation, &demos(relation)).unwrap(),
            shipped.render(relation, &demos(relation)).unwrap()
        );
        std::fs::write(dir.path().join("sts_postive.txt"), "").unwrap();
        let error = Prompts::from_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("sts_postive.txt") && error.contains("sts_positive.txt"));
        assert!(Prompts::from_folder(Path::new("none")).is_err());
    }

    #[test]
    fn mistakes_are_named_with_file_and_line() {
        for (text, line, problem) in [
            ("one\n{{ demo }}", 2, "unknown variable `demo`"),
            ("{% if false %}\ndemo\n{{ demo }}{% endif %}", 3, "`demo`"),
            ("{# demo #}\n\n{%\n  if demo %}{% endif %}", 4, "`demo`"),
            ("{{ sentence }}", 1, "unknown variable `sentence`"),
            (
                "a\n{% for d in demos %}\n{{ d.sorce }}{% endfor %}",
                3,
                "undefined",
            ),
            ("a\nb {{", 2, "syntax error"),
            ("{% for d in demos %}", 1, "syntax error"),
            ("{{ demos|nothing }}", 1, "unknown filter"),
        ] {
            let error = own(text).unwrap_err().to_string();
            let place = format!("sts_positive.txt:{line}: ");
            assert!(
                error.contains(&place) && error.contains(problem),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn defaults_are_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new").join("prompts");
        let paths = Prompts::shipped().write(&folder).unwrap();
        assert_eq!(paths.len(), Relation::ALL.len());
        assert!(matches!(
            Prompts::shipped().write(&folder),
            Err(PromptError::Exists { .. })
        ));
        let read = Prompts::from_folder(&folder).unwrap();
        for relation in Relation::ALL {
            assert_eq!(
                read.render(relation, &demos(relation)).unwrap(),
                Prompts::shipped()
                    .render(relation, &demos(relation))
                    .unwrap()
            );
        }
    }
}
