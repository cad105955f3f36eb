# One static program in an empty image, running as nobody.
#
#     docker build -t asterism .
#     docker run --rm -v "$PWD:/data" -w /data asterism discover texts.tsv --out run
#     docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD:/data:ro" -e ASTERISM_API_KEY asterism \
#         serve --run /data/run --addr 0.0.0.0:8080
#
# Beyond loopback the server demands a key, and inside a container every address is beyond it.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# glibc is linked in statically, not replaced by another one: the program tunes its allocator, which
# keeps the pages of large buffers between batches.
ENV RUSTFLAGS="-C target-feature=+crt-static"
# The bundled encoder is unpacked into /data or, where that is mounted read-only, into /tmp.
RUN cargo build --release --locked -p cli --target x86_64-unknown-linux-gnu \
 && mkdir -p /image && mkdir -m 1777 /image/tmp \
 && cp target/x86_64-unknown-linux-gnu/release/asterism /image/

FROM scratch
COPY --from=build /image/ /
COPY LICENSE-APACHE LICENSE-MIT /
USER 65532:65532
ENV ASTERISM_DATA=/data
ENTRYPOINT ["/asterism"]
CMD ["--help"]
