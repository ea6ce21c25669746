# Two stages: the first builds, the second holds the binary and the system's certificate authorities.
FROM rust:1.95-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends --yes protobuf-compiler libprotobuf-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY src src
RUN cargo build --release --locked --features etcd --bin portolan

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends --yes ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 4370 --user-group portolan \
 && install --directory --owner=portolan --group=portolan /run/portolan /var/lib/portolan /etc/portolan
COPY --from=build /src/target/release/portolan /usr/bin/portolan
COPY config/portolan.toml config/routes.toml /etc/portolan/
USER 4370:4370
ENV RUNTIME_DIRECTORY=/run/portolan
VOLUME ["/run/portolan", "/var/lib/portolan"]
ENTRYPOINT ["/usr/bin/portolan"]
CMD ["run", "--config", "/etc/portolan/portolan.toml"]
