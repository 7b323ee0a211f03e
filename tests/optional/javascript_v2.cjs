// The AWS SDK for JavaScript v2, which ended in 2025 and lives on in older programs. Arguments as javascript_v3.mjs.
const assert = require("node:assert/strict");
const { randomBytes } = require("node:crypto");
const { Readable } = require("node:stream");
process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const { S3 } = require("aws-sdk");

const [endpoint, Bucket, keys] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];

async function main(signatureVersion) {
  const s3 = new S3({ endpoint, region: "us-east-1", s3ForcePathStyle: true, signatureVersion });
  for (const Key of keys) {
    await s3.putObject({ Bucket, Key, Body: Key, Metadata: { name: "value" } }).promise();
    assert.equal((await s3.getObject({ Bucket, Key }).promise()).Body.toString(), Key);
    assert.equal(await (await fetch(s3.getSignedUrl("getObject", { Bucket, Key }))).text(), Key);
    await s3.copyObject({ Bucket, Key: `${Key}-copy`, CopySource: encodeURIComponent(`${Bucket}/${Key}`) }).promise();
  }
  const large = randomBytes(17 * 2 ** 20);
  await s3.upload({ Bucket, Key: "large", Body: Readable.from([large]) }).promise();
  assert.ok((await s3.getObject({ Bucket, Key: "large" }).promise()).Body.equals(large));
  const page = await s3.listObjects({ Bucket, MaxKeys: 3 }).promise();
  assert.equal(page.Contents.length, 3);
  const Objects = (await s3.listObjectsV2({ Bucket }).promise()).Contents.map(({ Key }) => ({ Key }));
  assert.equal(Objects.length, 2 * keys.length + 1);
  assert.deepEqual((await s3.deleteObjects({ Bucket, Delete: { Objects } }).promise()).Errors, []);
  await assert.rejects(s3.getObject({ Bucket, Key: "none" }).promise(), { code: "NoSuchKey" });
}

main("v4").then(() => main("v2")).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
