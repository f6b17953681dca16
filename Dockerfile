# The server as an image: one static program and nothing else, run by a user without rights.
#
#   docker build -t cloudmap-dns:0.1.0 .
#
# A static program that was built and stripped elsewhere, `cloudmap-dns` in the folder DIR, becomes an image without any
# other image:
#
#   docker build -t cloudmap-dns:0.1.0 --build-arg PROGRAM=prebuilt -f Dockerfile DIR
ARG PROGRAM=built

# Alpine's C library is musl, and Rust links it statically.
FROM docker.io/library/rust:1.95-alpine AS built
RUN apk add --no-cache musl-dev
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
# Cargo looks for what Cargo.toml names, also when it does not build it.
COPY benches benches
# Symbols are five sixths of the program. Benches and profilers want them, so the profile in Cargo.toml keeps them.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
RUN cargo build --release --locked --bin cloudmap-dns && mkdir -p /image/data && cp target/release/cloudmap-dns /image/

FROM scratch AS prebuilt
COPY cloudmap-dns /image/
WORKDIR /image/data

FROM ${PROGRAM} AS program

FROM scratch
LABEL org.opencontainers.image.title="cloudmap-dns" \
      org.opencontainers.image.description="AWS Cloud Map whose names resolve: an authoritative DNS server and the complete API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=program /image/cloudmap-dns /cloudmap-dns
COPY --from=program --chown=65532:65532 /image/data /data
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV CLOUDMAP_DNS_DNS=0.0.0.0:5300 \
    CLOUDMAP_DNS_API=0.0.0.0:5301 \
    CLOUDMAP_DNS_ADMIN=0.0.0.0:5302 \
    CLOUDMAP_DNS_DATA_DIR=/data
EXPOSE 5300/udp 5300/tcp 5301/tcp 5302/tcp
ENTRYPOINT ["/cloudmap-dns"]
