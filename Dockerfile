# docker build -t weakseg .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" weakseg seg.run pipeline=cam_affinity
# docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" weakseg seg.predict model=mine images=photos out=masks
FROM python:3.11-slim
WORKDIR /opt/weakseg
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY seg seg
COPY conf conf
COPY hydra_plugins hydra_plugins
RUN pip install --no-cache-dir -c constraints.txt '.[grabcut,onnx]'
# Downloaded weights are kept beside the results.
ENV HOME=/data
WORKDIR /data
ENTRYPOINT ["python", "-m"]
