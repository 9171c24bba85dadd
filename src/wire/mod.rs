//! Bytes: incremental framing, spans, splices. Knows no provider.
