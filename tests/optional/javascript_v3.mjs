// The AWS SDK for JavaScript v3 with its defaults: CRC32 trailers, streamed bodies, parallel multipart uploads.
// Arguments: endpoint, bucket, JSON list of keys. Ends with status 0 if all was as it should be.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";

const require = createRequire(`${process.env.NODE_PATH}/`); // import knows no NODE_PATH
const {
  S3Client, PutObjectCommand, GetObjectCommand, HeadObjectCommand, CopyObjectCommand, DeleteObjectCommand,
  DeleteObjectsCommand, paginateListObjectsV2, GetObjectAttributesCommand, ListBucketsCommand,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const [endpoint, Bucket, keys] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });
const body = async (Key, more = {}) =>
  Buffer.from(await (await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))).Body.transformToByteArray());
const list = async (more = {}) => {
  const found = [];
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket, ...more })) found.push(...(page.Contents ?? []));
  return found.map((entry) => entry.Key);
};

for (const Key of keys) {
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: Key, Metadata: { name: "value" } }));
  assert.equal((await body(Key)).toString(), Key);
  const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key }), { expiresIn: 60 });
  assert.equal(await (await fetch(url)).text(), Key);
  const CopySource = encodeURIComponent(`${Bucket}/${Key}`);
  await s3.send(new CopyObjectCommand({ Bucket, Key: `${Key}-copy`, CopySource }));
}
assert.deepEqual((await list()).sort(), keys.flatMap((key) => [key, `${key}-copy`]).sort());
assert.ok((await s3.send(new ListBucketsCommand({}))).Buckets.some((entry) => entry.Name === Bucket));

for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
  await s3.send(new PutObjectCommand({ Bucket, Key: "sum", Body: "content", ChecksumAlgorithm }));
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "sum", ChecksumMode: "ENABLED" }));
  assert.ok(head[`Checksum${ChecksumAlgorithm}`], ChecksumAlgorithm);
  assert.equal((await body("sum")).toString(), "content");
}

const large = randomBytes(23 * 2 ** 20 + 1);
const chunks = function* () {
  for (let at = 0; at < large.length; at += 2 ** 20) yield large.subarray(at, at + 2 ** 20);
};
await new Upload({ client: s3, params: { Bucket, Key: "large", Body: Readable.from(chunks()) } }).done();
assert.ok((await body("large")).equals(large));
assert.ok((await body("large", { Range: "bytes=100-199" })).equals(large.subarray(100, 200)));
await s3.send(new PutObjectCommand({ Bucket, Key: "one", Body: Readable.from(chunks()), ContentLength: large.length }));
assert.ok((await body("one")).equals(large));

await s3.send(new PutObjectCommand({ Bucket, Key: "once", Body: "1", IfNoneMatch: "*" }));
await assert.rejects(s3.send(new PutObjectCommand({ Bucket, Key: "once", Body: "2", IfNoneMatch: "*" })), { name: "PreconditionFailed" });
await assert.rejects(body("none"), { name: "NoSuchKey" });

for (let from = 0; from < 1050; from += 50)
  await Promise.all([...Array(50).keys()].map((n) => s3.send(new PutObjectCommand({ Bucket, Key: `d/${from + n}`, Body: "x" }))));
const many = await list({ Prefix: "d/" });
assert.equal(many.length, 1050);
for (let from = 0; from < 1050; from += 1000) {
  const Objects = many.slice(from, from + 1000).map((Key) => ({ Key }));
  assert.equal((await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))).Errors, undefined);
}
for (const Key of await list()) await s3.send(new DeleteObjectCommand({ Bucket, Key }));
assert.deepEqual(await list(), []);
