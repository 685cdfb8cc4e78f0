// A whole purchase at a running shop, whose address is in SHOP_URL: once over REST, once over
// gRPC-Web. The shop has to have something in stock.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Order_Status } from "../gen/grpc/shop/order/v1/order_pb.js";
import { Payment_Status } from "../gen/grpc/shop/payment/v1/payment_pb.js";
import { grpcWeb, reason, rest, type Credentials } from "../src/index.js";

const baseUrl = process.env.SHOP_URL ?? "http://127.0.0.1:8000";
const password = "correct horse battery staple";
const SECONDS = 30;

/** Ask again and again until the answer is the one that is waited for. */
async function until(wanted: string | number, ask: () => Promise<string | number>): Promise<void> {
  const end = Date.now() + SECONDS * 1000;
  for (;;) {
    const now = await ask();
    if (now === wanted) return;
    assert.ok(Date.now() < end, `still ${now} after ${SECONDS} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What a REST call answered; its refusal is a failure of the test. */
async function answered<T>(call: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const { data, error } = await call;
  assert.equal(error, undefined, JSON.stringify(error));
  assert.ok(data !== undefined);
  return data;
}

test("a purchase over REST", async () => {
  const credentials: Credentials = {};
  const shop = rest({ baseUrl, credentials });
  const email = `${randomUUID()}@example.com`;
  const user = await answered(
    shop.POST("/api/users/", { body: { email, password, full_name: "Ada Lovelace" } }),
  );
  const grant = await answered(shop.POST("/api/auth/login/", { body: { email, password } }));
  credentials.accessToken = grant.access_token;

  const query = { in_stock: true, page_size: 1 };
  const page = await answered(shop.GET("/api/products/", { params: { query } }));
  const product_id = page.products?.[0]?.id;
  assert.ok(product_id);
  const cart = await answered(
    shop.POST("/api/cart/items/", { body: { product_id, quantity: 2 } }),
  );
  assert.equal(cart.item_count, 2);

  const header = { "Idempotency-Key": randomUUID() };
  const body = {
    shipping_address: { region_code: "DE", postal_code: "10115", address_lines: ["Hauptstraße 1"] },
  };
  const order = await answered(shop.POST("/api/orders/", { params: { header }, body }));
  assert.equal(order.status, "AWAITING_PAYMENT");
  assert.equal(order.user_id, user.id);
  const again = await answered(shop.POST("/api/orders/", { params: { header }, body }));
  assert.equal(again.id, order.id);
  assert.ok(order.id);

  const declined = await shop.POST("/api/payment/", {
    body: { order_id: order.id, payment_method: "pm_card_chargeDeclined" },
  });
  assert.equal(reason(declined.error), "CARD_DECLINED");
  const payment = await answered(
    shop.POST("/api/payment/", { body: { order_id: order.id, payment_method: "pm_card_visa" } }),
  );
  assert.equal(payment.status, "SUCCEEDED");
  assert.deepEqual(payment.amount, order.total);
  const path = { id: order.id };
  await until("PAID", async () => {
    const now = await answered(shop.GET("/api/orders/{id}/", { params: { path } }));
    return now.status ?? "";
  });
});

test("a purchase over gRPC-Web", async () => {
  const credentials: Credentials = {};
  const shop = grpcWeb({ baseUrl, credentials });
  const email = `${randomUUID()}@example.com`;
  const user = await shop.users.createUser({ email, password, fullName: "Ada Lovelace" });
  credentials.accessToken = (await shop.auth.login({ email, password })).accessToken;

  const { products } = await shop.catalog.listProducts({ inStock: true, pageSize: 1 });
  const productId = products[0]?.id;
  assert.ok(productId);
  const cart = await shop.cart.addItem({
    item: { case: "productId", value: productId },
    quantity: 2,
  });
  assert.equal(cart.itemCount, 2);

  const headers = { "idempotency-key": randomUUID() };
  const value = { regionCode: "DE", postalCode: "10115", addressLines: ["Hauptstraße 1"] };
  const place = () =>
    shop.orders.createOrder({ destination: { case: "shippingAddress", value } }, { headers });
  const order = await place();
  assert.equal(order.status, Order_Status.AWAITING_PAYMENT);
  assert.equal(order.userId, user.id);
  assert.equal((await place()).id, order.id);

  const orderId = order.id;
  await assert.rejects(
    shop.payments.processPayment({ orderId, paymentMethod: "pm_card_chargeDeclined" }),
    (error) => reason(error) === "CARD_DECLINED",
  );
  const payment = await shop.payments.processPayment({ orderId, paymentMethod: "pm_card_visa" });
  assert.equal(payment.status, Payment_Status.SUCCEEDED);
  assert.deepEqual(payment.amount, order.total);
  await until(Order_Status.PAID, async () => (await shop.orders.getOrder({ id: orderId })).status);

  const statuses: (Order_Status | undefined)[] = [];
  for await (const { message } of shop.orders.watchOrder({ id: orderId })) {
    if (message.case !== "event") continue;
    statuses.push(message.value.toStatus);
    if (message.value.toStatus === Order_Status.PAID) break;
  }
  assert.equal(statuses[0], Order_Status.PENDING);
});
