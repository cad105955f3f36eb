//! What can be wrong with data and downloads. Every message names the file, and the line or field
//! where there is one. Line numbers start at 1 and count the header.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use web::WebError;

/// A data set cannot be loaded.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Neither the cache directory nor the folder for temporary files can be written.
    #[error(
        "the bundled encoder cannot be unpacked: {source}; set ASTERISM_DATA to a folder that can be written"
    )]
    Unpack {
        /// Why not in the second of them.
        source: Box<DatasetError>,
    },
    /// A required split has no file.
    #[error("{}: no file for the `{split}` split; looked for {looked_for}", dir.display())]
    MissingSplit {
        /// The folder.
        dir: PathBuf,
        /// `train` or `test`.
        split: &'static str,
        /// File names tried, comma-separated.
        looked_for: String,
    },
    /// Several files could be the same split.
    #[error("{}: several files for the `{split}` split: {found}; keep one", dir.display())]
    AmbiguousSplit {
        /// The folder.
        dir: PathBuf,
        /// The split.
        split: &'static str,
        /// File names found, comma-separated.
        found: String,
    },
    /// The name does not end in a known extension.
    #[error("{}: unknown kind of file; expected {expected}, each also with .gz", path.display())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// Endings known.
        expected: &'static str,
    },
    /// A gzip file that does not decompress.
    #[error("{}: not a complete gzip file: {source}", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: io::Error,
    },
    /// More bytes (after decompression) than allowed.
    #[error("{}: more than {limit} bytes after decompression", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing in the file but white space.
    #[error("{}: the file is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// A header but no usable row.
    #[error("{}: no usable rows ({skipped} skipped)", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
        /// Rows skipped.
        skipped: usize,
    },
    /// The header line is not one of the known forms.
    #[error("{}:1: unknown header `{found}`; expected {expected}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Forms known.
        expected: String,
        /// The header found, shortened.
        found: String,
    },
    /// Bytes that are not UTF-8.
    #[error("{}:{line}: invalid UTF-8 at byte {byte} of the line", path.display())]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// Offset of the first bad byte in the line, from 0.
        byte: usize,
    },
    /// A NUL byte, as in UTF-16 or binary files.
    #[error("{}:{line}: NUL byte; is the file UTF-8 text?", path.display())]
    NulByte {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
    },
    /// A line or quoted field over the limit.
    #[error("{}:{line}: {found} bytes in one line or field; the limit is {limit}", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line number where it starts.
        line: u64,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A row with a wrong number of fields.
    #[error("{}:{line}: {found} fields; expected {expected}", path.display())]
    RaggedRow {
        /// The file.
        path: PathBuf,
        /// Line number where the row starts.
        line: u64,
        /// Fields in the header or first row.
        expected: usize,
        /// Fields in the row.
        found: usize,
    },
    /// A quoted field without its closing quote.
    #[error("{}:{line}: a quoted field starts in this row and is never closed", path.display())]
    UnclosedQuote {
        /// The file.
        path: PathBuf,
        /// Line number where the row starts.
        line: u64,
    },
    /// A line of a JSON lines file that is not a JSON object.
    #[error("{}:{line}: not a JSON object: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The parser's reason.
        reason: String,
    },
    /// A field is missing or of a wrong type in a JSON object.
    #[error("{}:{line}: field `{field}`: expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The field.
        field: String,
        /// What is accepted.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A row whose text is empty or white space.
    #[error("{}:{line}: the text is empty", path.display())]
    EmptyText {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
    },
    /// A row whose label is empty or white space.
    #[error("{}:{line}: the {level} label is empty", path.display())]
    EmptyLabel {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// `coarse` or `fine`.
        level: &'static str,
    },
    /// A fine label that the coarse map does not know.
    #[error("{}:{line}: the fine label `{label}` is not in {map}", path.display())]
    UnmappedLabel {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The label.
        label: String,
        /// The map asked.
        map: String,
    },
    /// One fine label with two coarse labels in a coarse map.
    #[error("{}:{line}: `{label}` is mapped to `{found}` here and to `{expected}` above", path.display())]
    ConflictingMap {
        /// The map file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The fine label.
        label: String,
        /// The earlier coarse label.
        expected: String,
        /// The coarse label here.
        found: String,
    },
    /// A label that the training file does not have.
    #[error("{}:{line}: the {level} label `{label}` does not occur in the training file", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// `coarse` or `fine`.
        level: &'static str,
        /// The label.
        label: String,
    },
    /// Fewer than two coarse categories in the training file.
    #[error("{}: {found} coarse category; at least 2 are needed", path.display())]
    TooFewCoarse {
        /// The training file.
        path: PathBuf,
        /// Categories found.
        found: usize,
    },
    /// A file with a number of columns that the loader cannot use.
    #[error("{}:{line}: {found} columns; expected {expected}", path.display())]
    ColumnCount {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// Columns found.
        found: usize,
        /// What is accepted.
        expected: &'static str,
    },
    /// A file of single sentences where pairs or triplets are needed.
    #[error("{}:{line}: a text file where a file of {needed} is needed: {found} text in a row", path.display())]
    PairsNeeded {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// Texts in a row.
        found: usize,
        /// `pairs` or `triplets`.
        needed: &'static str,
    },
    /// A pair without a score where every pair needs one.
    #[error("{}:{line}: the pair has no score", path.display())]
    MissingScore {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
    },
    /// A score that is not a number.
    #[error("{}:{line}: the score `{found}` is not a number", path.display())]
    BadScore {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// What stands there, shortened.
        found: String,
    },
    /// A score that is NaN, infinite or outside its range.
    #[error("{}:{line}: the score {found} is outside {min} to {max}", path.display())]
    ScoreRange {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The score.
        found: f64,
        /// Smallest score allowed.
        min: f64,
        /// Largest score allowed.
        max: f64,
    },
    /// A label that is none of those the task has.
    #[error("{}:{line}: the label `{found}` is unknown; expected {expected}", path.display())]
    BadLabel {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// What stands there, shortened.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// Two files whose lines belong together have different numbers of lines.
    #[error("{}: {found} lines; {} has {expected}", path.display(), other.display())]
    LineCount {
        /// The file.
        path: PathBuf,
        /// Lines found.
        found: usize,
        /// The file it belongs to.
        other: PathBuf,
        /// Lines of that file.
        expected: usize,
    },
    /// A row of generated data whose used keys differ from those of the first row of its split.
    #[error("{}:{line}: a row of `{split}` uses the keys {found}; the first one uses {expected}", path.display())]
    RowKeys {
        /// The file.
        path: PathBuf,
        /// Line number.
        line: u64,
        /// The split.
        split: &'static str,
        /// Keys of the first row.
        expected: String,
        /// Keys of this row.
        found: String,
    },
    /// No file of an evaluation task.
    #[error("{}: no file of {task}; looked for {looked_for}", dir.display())]
    MissingTask {
        /// The folder.
        dir: PathBuf,
        /// The task or tasks.
        task: String,
        /// File names tried, comma-separated.
        looked_for: String,
    },
    /// A file that cannot be shortened row by row.
    #[error("{}: a JSON list cannot be shortened; use one object a line", path.display())]
    JsonList {
        /// The file.
        path: PathBuf,
    },
    /// No row belongs to the split asked for.
    #[error("{}: no row of the split `{split}`; the file has {known}", path.display())]
    NoSuchSplit {
        /// The file.
        path: PathBuf,
        /// The split asked for.
        split: String,
        /// Splits of the file, or that it has no split column.
        known: String,
    },
}

/// A manifest is wrong or a download failed.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The manifest does not parse.
    #[error("manifest: {reason}")]
    ManifestSyntax {
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// A field of the manifest has a bad value.
    #[error("manifest `{manifest}`: {field} = `{found}`: {expected}")]
    ManifestField {
        /// Name of the manifest.
        manifest: String,
        /// The field, with the number of the file entry if there is one.
        field: String,
        /// The value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// No built-in manifest has this name.
    #[error("no manifest `{name}`; known: {known}")]
    UnknownManifest {
        /// The name asked for.
        name: String,
        /// Known names.
        known: String,
    },
    /// The operating system refused an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder below the cache folder is a symbolic link that leaves it.
    #[error("{}: leads out of the cache folder {}", path.display(), cache.display())]
    OutsideCache {
        /// Where it leads.
        path: PathBuf,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The address is not allowed by the network rules.
    #[error("refused to connect to {url}: {reason}")]
    Refused {
        /// The address.
        url: String,
        /// The rule.
        reason: String,
    },
    /// Too many redirects.
    #[error("{url}: more than {limit} redirects")]
    TooManyRedirects {
        /// The first address.
        url: String,
        /// The limit.
        limit: u32,
    },
    /// The server answered with something other than success.
    #[error("{url}: the server answered {status}")]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// Seconds the server asks to wait before another try.
        retry_after: Option<u64>,
    },
    /// The connection failed or broke.
    #[error("{url}: {reason}")]
    Transport {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The body ended before the declared size.
    #[error("{url}: the body ended after {found} of {expected} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes declared.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
    /// The server's file has another size than declared.
    #[error("{url}: {found} bytes, expected {expected}")]
    WrongSize {
        /// The address.
        url: String,
        /// Bytes declared.
        expected: u64,
        /// Bytes announced or received (a lower bound when the body was cut off at the limit).
        found: u64,
    },
    /// The server's file is larger than allowed.
    #[error("{url}: larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit, in bytes.
        limit: u64,
        /// Bytes announced, or received until then.
        found: u64,
    },
    /// A header of the answer contradicts what was asked for.
    #[error("{url}: the header {header} is `{found}`, expected `{expected}`")]
    Header {
        /// The address.
        url: String,
        /// The header.
        header: &'static str,
        /// What was asked for.
        expected: String,
        /// What it says.
        found: String,
    },
    /// The digest differs.
    #[error("{url}: SHA-256 is {found}, expected {expected}")]
    WrongHash {
        /// The address.
        url: String,
        /// Digest declared.
        expected: String,
        /// Digest of the body.
        found: String,
    },
    /// All tries failed.
    #[error("gave up after {tries} tries: {last}")]
    GaveUp {
        /// Tries made.
        tries: u32,
        /// The last failure.
        last: Box<FetchError>,
    },
}

/// A model cannot be had from a hub.
#[derive(Debug, Error)]
pub enum HubError {
    /// A request that cannot be sent.
    #[error("{field} `{}`: expected {expected}", found.escape_debug())]
    Request {
        /// What it is about.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Something would have to be asked of a hub.
    #[error("offline, so that the hub cannot be asked for {what}")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// The list of files is none.
    #[error("the list of files of {model}: {problem}")]
    Listing {
        /// The model.
        model: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is needed is not part of the model.
    #[error("{model} has no `{}`", file.escape_debug())]
    Missing {
        /// The model.
        model: String,
        /// The file.
        file: String,
    },
    /// The weights are several files.
    #[error(
        "{model} has its weights in several files (model.safetensors.index.json), expected one model.safetensors"
    )]
    Sharded {
        /// The model.
        model: String,
    },
    /// There are no weights as safetensors.
    #[error("{model} has no model.safetensors, found {found}")]
    NoSafetensors {
        /// The model.
        model: String,
        /// What is there in its place.
        found: String,
    },
    /// A target folder that was not made by a fetch, with something in it.
    #[error("{} is not empty and has no asterism-source.json; nothing was changed", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The directory holds another model.
    #[error("{} holds {pinned}, not {asked}; nothing was changed", path.display())]
    OtherModel {
        /// The directory.
        path: PathBuf,
        /// The model it was made for.
        pinned: String,
        /// The model asked for.
        asked: String,
    },
    /// The directory holds another commit.
    #[error("{} is pinned to {pinned}, `{revision}` is {found} now; nothing was changed", path.display())]
    OtherCommit {
        /// The directory.
        path: PathBuf,
        /// Its commit.
        pinned: String,
        /// What was asked for.
        revision: String,
        /// The commit that stands for.
        found: String,
    },
    /// A file differs from the pin.
    #[error("{} has changed: SHA-256 is {found}, expected {expected}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Digest in the pin.
        expected: String,
        /// Digest of the file.
        found: String,
    },
    /// The pin of a directory cannot be used.
    #[error("{}: {problem}", path.display())]
    Source {
        /// The pin.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl From<WebError> for FetchError {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Refused { url, reason } => Self::Refused { url, reason },
            WebError::TooManyRedirects { url, limit } => Self::TooManyRedirects { url, limit },
            WebError::Transport { url, reason, .. } => Self::Transport { url, reason },
            WebError::Truncated {
                url,
                expected,
                found,
            } => Self::Truncated {
                url,
                expected: expected.unwrap_or(found),
                found,
            },
            WebError::TooLarge { url, limit, found } => Self::TooLarge { url, limit, found },
        }
    }
}
