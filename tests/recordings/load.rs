//! Reads the recordings from the folder that `REPLAY_RECORDINGS` names.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::parts::{self, Issued};

/// One file of recorded traffic.
pub(crate) struct Recording {
    /// The name of the file, without its ending.
    pub(crate) name: String,
    pub(crate) cloud_code: bool,
    pub(crate) model: String,
    /// What the recorded client changed on the way back.
    pub(crate) quirks: Vec<String>,
    pub(crate) exchanges: Vec<Exchange>,
}

pub(crate) struct Exchange {
    /// Tells the conversations of one file apart.
    pub(crate) session: u64,
    pub(crate) request: Option<Request>,
    pub(crate) response: Response,
}

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// The body as it went over the wire.
    pub(crate) text: String,
    pub(crate) is_sse: bool,
    pub(crate) chunk_sizes: Vec<usize>,
}

fn folder() -> PathBuf {
    match std::env::var_os("REPLAY_RECORDINGS").filter(|folder| !folder.is_empty()) {
        Some(folder) => folder.into(),
        None => panic!("REPLAY_RECORDINGS must name the folder that holds the recorded provider traffic"),
    }
}

/// The recordings of these folders, errors included, in the order of their names.
pub(crate) fn load(folders: &[&str]) -> Vec<Recording> {
    let mut recordings = Vec::new();
    for name in folders {
        let folder = folder().join(name);
        let listing = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("REPLAY_RECORDINGS: cannot list {}: {error}", folder.display()));
        let mut files: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
        files.sort();
        recordings.extend(files.iter().map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let value = serde_json::from_str(&text).unwrap();
            recording(file.file_stem().unwrap().to_str().unwrap(), &value)
        }));
    }
    assert!(!recordings.is_empty(), "REPLAY_RECORDINGS names a folder without recordings");
    recordings
}

fn recording(name: &str, value: &Value) -> Recording {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Recording {
        name: name.to_owned(),
        cloud_code: value["dialect"] == "gemini-cloudcode",
        model: text(&value["model"]),
        quirks: value["client_quirks"].as_array().into_iter().flatten().map(text).collect(),
        exchanges: value["exchanges"].as_array().unwrap().iter().map(exchange).collect(),
    }
}

fn exchange(value: &Value) -> Exchange {
    let request = &value["request"];
    let request = request["body"].is_object().then(|| Request {
        method: request["method"].as_str().unwrap_or("POST").to_owned(),
        path: request["path"].as_str().unwrap_or_default().to_owned(),
        headers: headers(&request["headers"]),
        body: request["body"].clone(),
    });
    let response = &value["response"];
    let raw = response["sse"].as_str().or(response["raw"].as_str());
    let sizes = response["chunk_sizes"].as_array().into_iter().flatten();
    let response = Response {
        status: response["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(200),
        headers: headers(&response["headers"]),
        text: raw.map_or_else(|| response["body"].to_string(), str::to_owned),
        is_sse: response["sse"].is_string(),
        chunk_sizes: sizes.filter_map(Value::as_u64).map(|size| usize::try_from(size).unwrap()).collect(),
    };
    Exchange { session: value["session"].as_u64().unwrap_or(0), request, response }
}

/// What describes the connection or the encoding on the wire does not hold for what is played.
fn headers(value: &Value) -> Vec<(String, String)> {
    const GONE: [&str; 5] =
        ["content-encoding", "content-length", "transfer-encoding", "connection", "accept-encoding"];
    let headers = value.as_object().into_iter().flatten();
    let headers =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap_or_default().to_owned()));
    headers.filter(|(name, _)| !GONE.contains(&&**name)).collect()
}

impl Response {
    /// The body in the pieces in which it arrives.
    pub(crate) fn chunks(&self, size: Option<usize>) -> Vec<Vec<u8>> {
        let mut rest = self.text.as_bytes();
        let mut chunks = Vec::new();
        let mut sizes = self.chunk_sizes.iter().copied();
        while !rest.is_empty() {
            let next = size.or_else(|| sizes.next()).unwrap_or(rest.len()).clamp(1, rest.len());
            let (chunk, tail) = rest.split_at(next);
            chunks.push(chunk.to_vec());
            rest = tail;
        }
        chunks
    }

    /// The JSON values of the body: events, elements, or the one document.
    pub(crate) fn values(&self) -> Vec<Value> {
        if self.is_sse {
            let data = self.text.lines().filter_map(|line| line.strip_prefix("data:"));
            return data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        }
        match serde_json::from_str(&self.text) {
            Ok(Value::Array(elements)) => elements,
            Ok(value) => vec![value],
            Err(_) => Vec::new(),
        }
    }

    /// The candidates, each as its parts in the order in which they came.
    pub(crate) fn candidates(&self) -> Vec<Vec<Value>> {
        let mut candidates: Vec<Vec<Value>> = Vec::new();
        if !(200..300).contains(&self.status) {
            return candidates;
        }
        for value in self.values() {
            let value = value.get("response").unwrap_or(&value);
            for candidate in value["candidates"].as_array().into_iter().flatten() {
                let index = candidate["index"].as_u64().map_or(0, |index| usize::try_from(index).unwrap());
                if candidates.len() <= index {
                    candidates.resize(index + 1, Vec::new());
                }
                candidates[index].extend(candidate["content"]["parts"].as_array().into_iter().flatten().cloned());
            }
        }
        candidates
    }

    /// The signatures that it issued.
    pub(crate) fn issued(&self) -> Vec<Issued> {
        self.candidates().iter().flat_map(|parts| parts::issued(parts)).collect()
    }
}
